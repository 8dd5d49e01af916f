package webhooks

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

const secret = "a secret of TikTok, 32 bytes long"

// signTikTok is what TikTok's document has its servers do.
func signTikTok(secret, t, body string) string {
	mac := hmac.New(sha256.New, []byte(secret))
	fmt.Fprintf(mac, "%s.%s", t, body)
	return "t=" + t + ",s=" + hex.EncodeToString(mac.Sum(nil))
}

func TestVerify(t *testing.T) {
	t.Parallel()
	// "Validating webhook deliveries", "Testing the webhook payload validation", of GitHub's documentation
	// (https://docs.github.com/webhooks/using-webhooks/validating-webhook-deliveries).
	const (
		githubSecret = "It's a Secret to Everybody"
		githubBody   = "Hello, World!"
		github       = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
	)
	// Test case 2 of RFC 2202 (HMAC-SHA1) and of RFC 4231 (the others): the methods of WebSub, 7.1.1.
	const (
		jefe   = "Jefe"
		ask    = "what do ya want for nothing?"
		sha1   = "sha1=effcdf6ae5eb2fa2d27416d5f184df9c259a7c79"
		sha2   = "sha256=5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
		sha384 = "sha384=af45d2e376484031617f78d2b58a6b1b9c7ef464f5a01b47e42ec3736322445e8e2240ca5e69e2c78b3239ecfab21649"
		sha512 = "sha512=164b7a7bfcf819e2e395fbe73b56e0a387bd64222e831fd610270cd7ea2505549758bf75c05a994a6d034f65f8f0e6fdcaeab1a34d4a6b4b636e070a38bce737"
	)
	at := fmt.Sprint(noon.Unix())
	signed := signTikTok(secret, at, tiktokComplete)
	tests := map[string]struct {
		platform, name, value, body, secret string
		valid                               bool
	}{
		"anything else":                       {"mastodon", "X-Signature-256", github, githubBody, githubSecret, true},
		"anything else, capitals":             {"mastodon", "X-Signature-256", "sha256=" + strings.ToUpper(github[7:]), githubBody, githubSecret, true},
		"anything else, any platform":         {"tiktok", "X-Signature-256", github, githubBody, githubSecret, true},
		"anything else, another's header":     {"mastodon", "X-Hub-Signature-256", github, githubBody, githubSecret, false},
		"anything else, no method":            {"mastodon", "X-Signature-256", github[7:], githubBody, githubSecret, false},
		"anything else, wrong method":         {"mastodon", "X-Signature-256", "sha1=" + github[7:], githubBody, githubSecret, false},
		"anything else, cut":                  {"mastodon", "X-Signature-256", github[:len(github)-2], githubBody, githubSecret, false},
		"anything else, nothing":              {"mastodon", "X-Signature-256", "sha256=", githubBody, githubSecret, false},
		"anything else, another body":         {"mastodon", "X-Signature-256", github, githubBody + " ", githubSecret, false},
		"anything else, another secret":       {"mastodon", "X-Signature-256", github, githubBody, githubSecret + "!", false},
		"Instagram":                           {"instagram", "X-Hub-Signature-256", github, githubBody, githubSecret, true},
		"Instagram, another body":             {"instagram", "X-Hub-Signature-256", github, "hello, World!", githubSecret, false},
		"Instagram, the older header":         {"instagram", "X-Hub-Signature", sha1, ask, jefe, false},
		"YouTube, SHA-1":                      {"youtube", "X-Hub-Signature", sha1, ask, jefe, true},
		"YouTube, SHA-256":                    {"youtube", "X-Hub-Signature", sha2, ask, jefe, true},
		"YouTube, SHA-384":                    {"youtube", "X-Hub-Signature", sha384, ask, jefe, true},
		"YouTube, SHA-512":                    {"youtube", "X-Hub-Signature", sha512, ask, jefe, true},
		"YouTube, one method for another":     {"youtube", "X-Hub-Signature", "sha256=" + sha1[5:], ask, jefe, false},
		"YouTube, unknown method":             {"youtube", "X-Hub-Signature", "md5=750c783e6ab0b503eaa86e310a5db738", ask, jefe, false},
		"YouTube, another body":               {"youtube", "X-Hub-Signature", sha1, ask + "?", jefe, false},
		"TikTok":                              {"tiktok", "Tiktok-Signature", signed, tiktokComplete, secret, true},
		"TikTok, the other way round":         {"tiktok", "Tiktok-Signature", strings.Join([]string{signed[len(at)+3:], "t=" + at}, ","), tiktokComplete, secret, true},
		"TikTok, a space":                     {"tiktok", "Tiktok-Signature", strings.Replace(signed, ",", ", ", 1), tiktokComplete, secret, true},
		"TikTok, more than is known":          {"tiktok", "Tiktok-Signature", signed + ",v=2", tiktokComplete, secret, true},
		"TikTok, milliseconds":                {"tiktok", "Tiktok-Signature", signTikTok(secret, at+"999", tiktokComplete), tiktokComplete, secret, true},
		"TikTok, another body":                {"tiktok", "Tiktok-Signature", signed, tiktokFailed, secret, false},
		"TikTok, another time":                {"tiktok", "Tiktok-Signature", strings.Replace(signed, at, fmt.Sprint(noon.Unix()+1), 1), tiktokComplete, secret, false},
		"TikTok, two times":                   {"tiktok", "Tiktok-Signature", "t=1," + signed, tiktokComplete, secret, false},
		"TikTok, two signatures":              {"tiktok", "Tiktok-Signature", signed + ",s=00", tiktokComplete, secret, false},
		"TikTok, no time":                     {"tiktok", "Tiktok-Signature", signTikTok(secret, "", tiktokComplete), tiktokComplete, secret, false},
		"TikTok, a time that is none":         {"tiktok", "Tiktok-Signature", signTikTok(secret, "-5", tiktokComplete), tiktokComplete, secret, false},
		"TikTok, no signature":                {"tiktok", "Tiktok-Signature", "t=" + at, tiktokComplete, secret, false},
		"TikTok, the header of its document":  {"tiktok", "Tiktok-Signature", "t=1633174587,s=18494715036ac4416a1d0a673871a2edbcfc94d94bd88ccd2c5ec9b3425afe66", tiktokComplete, secret, false},
		"TikTok, the general header is empty": {"tiktok", "X-Signature-256", "", tiktokComplete, secret, false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			header := http.Header{}
			header.Set(test.name, test.value)
			for _, secrets := range [][][]byte{{[]byte(test.secret)}, {[]byte("the old one"), []byte(test.secret)}, {[]byte(test.secret), []byte("the old one")}} {
				err := Verify(test.platform, header, []byte(test.body), secrets, noon)
				if test.valid && err != nil || !test.valid && !errors.Is(err, ErrForged) {
					t.Errorf("with %q it is %v", secrets, err)
				}
			}
			if err := Verify(test.platform, header, []byte(test.body), nil, noon); !errors.Is(err, ErrForged) {
				t.Errorf("without a secret it is %v", err)
			}
		})
	}
}

// The platform's own header counts where both are there: nobody chooses the weaker one.
func TestOwnHeaderCounts(t *testing.T) {
	t.Parallel()
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte("{}"))
	header := http.Header{"X-Signature-256": {"sha256=" + hex.EncodeToString(mac.Sum(nil))}}
	if err := Verify(TikTok, header, []byte("{}"), [][]byte{[]byte(secret)}, noon); err != nil {
		t.Error(err)
	}
	header.Set("TikTok-Signature", "t=1,s=00")
	if err := Verify(TikTok, header, []byte("{}"), [][]byte{[]byte(secret)}, noon); !errors.Is(err, ErrForged) {
		t.Errorf("it is %v", err)
	}
}

func TestTolerance(t *testing.T) {
	t.Parallel()
	for offset, want := range map[time.Duration]string{
		0: "", Tolerance: "", -Tolerance: "",
		Tolerance + time.Second:  "the signature's time is 5m1s in the past: at most 5m0s is allowed",
		-Tolerance - time.Second: "the signature's time is 5m1s in the future: at most 5m0s is allowed",
		72 * time.Hour:           "the signature's time is 72h0m0s in the past: at most 5m0s is allowed",
	} {
		at := noon.Add(-offset)
		for _, count := range []int64{at.Unix(), at.UnixMilli()} {
			header := http.Header{"Tiktok-Signature": {signTikTok(secret, fmt.Sprint(count), "{}")}}
			err := Verify(TikTok, header, []byte("{}"), [][]byte{[]byte(secret)}, noon)
			if err == nil && want != "" || err != nil && err.Error() != want {
				t.Errorf("%s off, %d: %v", offset, count, err)
			}
			if err := Verify(TikTok, header, []byte("{}"), [][]byte{[]byte("another")}, noon); !errors.Is(err, ErrForged) {
				t.Errorf("%s off, forged: %v", offset, err) // who has no secret hears nothing of clocks
			}
		}
	}
}

func TestSigned(t *testing.T) {
	t.Parallel()
	for header, want := range map[string]map[string]bool{
		"TikTok-Signature":    {TikTok: true, Instagram: false, YouTube: false, "mastodon": false},
		"X-Hub-Signature-256": {TikTok: false, Instagram: true, YouTube: false, "mastodon": false},
		"X-Hub-Signature":     {TikTok: false, Instagram: false, YouTube: true, "mastodon": false},
		"X-Signature-256":     {TikTok: true, Instagram: true, YouTube: true, "mastodon": true},
		"Authorization":       {TikTok: false, Instagram: false, YouTube: false, "mastodon": false},
	} {
		for platform, signed := range want {
			h := http.Header{}
			h.Set(header, "x")
			if Signed(platform, h) != signed {
				t.Errorf("%s on %s: %t", header, platform, !signed)
			}
		}
	}
}
