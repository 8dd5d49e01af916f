package webhooks

import (
	"crypto/hmac"
	"crypto/sha1" // HMAC-SHA1 is what Google's hub signs with, and is not broken as SHA-1 is
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Tolerance is how far the time of a signature may be off, in either direction. TikTok's document leaves it to the
// receiver; five minutes is what most others take (Stripe, Slack).
const Tolerance = 5 * time.Minute

// HeaderSignature signs webhooks of any platform: "sha256=" and the HMAC-SHA256 of the raw body in hexadecimal, as GitHub
// writes it.
const HeaderSignature = "X-Signature-256"

// HeaderWebSub is YouTube's own: that of every hub.
const HeaderWebSub = "X-Hub-Signature"

// The others' own headers.
const (
	headerTikTok = "TikTok-Signature"
	headerMeta   = "X-Hub-Signature-256"
)

var ownHeaders = map[string]string{TikTok: headerTikTok, Instagram: headerMeta, YouTube: HeaderWebSub}

// ErrForged is a signature that none of the secrets made.
var ErrForged = errors.New("the signature is not valid")

// StaleError is a valid signature of another time.
type StaleError struct {
	// Off is how far it lies in the past; negative: in the future.
	Off time.Duration
}

func (e *StaleError) Error() string {
	where := "past"
	if e.Off < 0 {
		where = "future"
	}
	return fmt.Sprintf("the signature's time is %s in the %s: at most %s is allowed", e.Off.Abs().Round(time.Second), where, Tolerance)
}

// Headers are those that may sign a webhook of a platform, the platform's own first.
func Headers(platform string) []string {
	if own := ownHeaders[platform]; own != "" {
		return []string{own, HeaderSignature}
	}
	return []string{HeaderSignature}
}

// Signed tells whether a request brings a signature at all, valid or not.
func Signed(platform string, header http.Header) bool {
	name, _ := signature(platform, header)
	return name != ""
}

// signature is the header that counts, and its value.
func signature(platform string, header http.Header) (name, value string) {
	for _, name := range Headers(platform) {
		if value := header.Get(name); value != "" {
			return name, value
		}
	}
	return "", ""
}

// Verify wants a signature by one of the secrets, over the body as it came. The error is [ErrForged], also where there is
// no signature at all, or a [*StaleError].
func Verify(platform string, header http.Header, body []byte, secrets [][]byte, now time.Time) error {
	switch name, value := signature(platform, header); name {
	case headerTikTok:
		return verifyTikTok(value, body, secrets, now)
	case HeaderWebSub:
		return verifyWebSub(value, body, secrets)
	case headerMeta, HeaderSignature:
		return verifySHA256(value, body, secrets)
	}
	return ErrForged
}

// verifySHA256 is for "sha256=…": "Validating payloads" of Meta's Webhooks guide
// (https://developers.facebook.com/docs/graph-api/webhooks/getting-started), and GitHub's "Validating webhook deliveries".
func verifySHA256(value string, body []byte, secrets [][]byte) error {
	hexMAC, found := strings.CutPrefix(value, "sha256=")
	if !found {
		return ErrForged
	}
	return check(sha256.New, hexMAC, secrets, body)
}

// webSubHashes are the recognized algorithm names of WebSub, 7.1.1 (https://www.w3.org/TR/websub/).
var webSubHashes = map[string]func() hash.Hash{
	"sha1": sha1.New, "sha256": sha256.New, "sha384": sha512.New384, "sha512": sha512.New,
}

// verifyWebSub is for "method=signature": WebSub, 7.1.
func verifyWebSub(value string, body []byte, secrets [][]byte) error {
	method, hexMAC, _ := strings.Cut(value, "=")
	newHash, known := webSubHashes[method]
	if !known {
		return ErrForged
	}
	return check(newHash, hexMAC, secrets, body)
}

// verifyTikTok is for "t=…,s=…", where s signs t, a dot and the body: "Check the signature" of TikTok's Webhooks
// (https://developers.tiktok.com/doc/webhooks-verification).
func verifyTikTok(value string, body []byte, secrets [][]byte, now time.Time) error {
	given := make(map[string]string, 2)
	for pair := range strings.SplitSeq(value, ",") {
		name, text, _ := strings.Cut(strings.TrimSpace(pair), "=")
		if _, twice := given[name]; twice { // which should count?
			return ErrForged
		}
		given[name] = text
	}
	if err := check(sha256.New, given["s"], secrets, []byte(given["t"]), []byte("."), body); err != nil {
		return err
	}
	// Only now: whoever holds no secret hears nothing of clocks.
	n, err := strconv.ParseInt(given["t"], 10, 64)
	at, ok := moment(n)
	if err != nil || !ok {
		return ErrForged
	}
	if off := now.Sub(at); off.Abs() > Tolerance {
		return &StaleError{off}
	}
	return nil
}

// check compares a MAC with that of each secret, in constant time.
func check(newHash func() hash.Hash, hexMAC string, secrets [][]byte, parts ...[]byte) error {
	got, err := hex.DecodeString(hexMAC)
	if err != nil {
		return ErrForged
	}
	valid := false
	for _, secret := range secrets {
		mac := hmac.New(newHash, secret)
		for _, part := range parts {
			mac.Write(part)
		}
		valid = hmac.Equal(got, mac.Sum(nil)) || valid
	}
	if !valid {
		return ErrForged
	}
	return nil
}
