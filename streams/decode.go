package streams

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"
)

// Limits of what a message may say.
const (
	// MaxPlatformBytes and MaxExternalPostIDBytes keep both together inside one entry of a Postgres
	// B-tree index (2,704 bytes).
	MaxPlatformBytes       = 128
	MaxExternalPostIDBytes = 1024
	// MaxTimeoutMinutes is the longest patience a check may ask for: ten years.
	MaxTimeoutMinutes = 10 * 366 * 24 * 60
	// MinSinceMinutes and MaxSinceMinutes bound a sweep's window: a minute to a day.
	MinSinceMinutes = 1
	MaxSinceMinutes = 1440
)

// Webhook is what a platform said about one post.
type Webhook struct {
	// Platform is the subject's token in lower case.
	Platform string
	// ExternalPostID is the platform's name for the post; never empty.
	ExternalPostID string
	// Fields is the message's JSON object as it came, external_post_id included. Numbers are json.Number.
	Fields map[string]any
}

// Check asks for one log to be looked at.
type Check struct {
	LogID uuid.UUID
	// Timeout takes the place of the platform's timeout for this check. Nil: the platform's. Zero: no
	// patience at all. One below zero, or above [MaxTimeoutMinutes], makes the check a dead letter.
	Timeout *time.Duration
}

// Sweep asks for all logs past their deadline to be looked at.
type Sweep struct {
	// Since takes the place of every platform's timeout. Zero: each platform's own.
	Since time.Duration
}

// Reason says in one word why a message is dead; it is the dead letter's [HeaderDeadReason].
type Reason string

// Why a message can't be decoded.
const (
	ReasonMalformedJSON         Reason = "malformed_json"
	ReasonNotAnObject           Reason = "not_an_object"
	ReasonInvalidPlatform       Reason = "invalid_platform"
	ReasonInvalidExternalPostID Reason = "invalid_external_post_id"
	ReasonMissingExternalPostID Reason = "missing_external_post_id"
	ReasonInvalidLogID          Reason = "invalid_log_id"
	ReasonUnknownField          Reason = "unknown_field"
	ReasonInvalidValue          Reason = "invalid_value"
)

// DecodeError says why a message can never be understood. Another try would end the same way.
type DecodeError struct {
	Reason Reason
	// Detail names what was wrong and what is allowed.
	Detail string
}

func (e *DecodeError) Error() string { return e.Detail }

func undecodable(reason Reason, format string, args ...any) error {
	return &DecodeError{Reason: reason, Detail: fmt.Sprintf(format, args...)}
}

// DecodeWebhook reads a message of publish.webhook.<platform>. Fields it does not know are kept. The
// error is a [*DecodeError].
func DecodeWebhook(subject string, body []byte) (Webhook, error) {
	platform, err := parsePlatform(strings.TrimPrefix(subject, prefixWebhook))
	if err != nil {
		return Webhook{}, err
	}
	fields, err := decodeObject(body)
	if err != nil {
		return Webhook{}, err
	}
	raw, found := fields["external_post_id"]
	if !found {
		return Webhook{}, undecodable(ReasonMissingExternalPostID, "external_post_id is missing: it must be a string or a number")
	}
	postID, err := parseExternalPostID(raw)
	if err != nil {
		return Webhook{}, err
	}
	return Webhook{Platform: platform, ExternalPostID: postID, Fields: fields}, nil
}

// DecodeCheck reads a message of publish.check.<log_id>: an empty body, or a JSON object with nothing
// but timeout_minutes, from 0 to [MaxTimeoutMinutes]. The error is a [*DecodeError].
func DecodeCheck(subject string, body []byte) (Check, error) {
	name := strings.TrimPrefix(subject, prefixCheck)
	// uuid.Parse also takes braces, URNs and ids without hyphens: the length tells them from the usual form.
	id, err := uuid.Parse(name)
	if err != nil || len(name) != len(id.String()) {
		return Check{}, undecodable(ReasonInvalidLogID, "log id %s is not a UUID such as 6f1c2d3e-4b5a-4978-8f6e-5d4c3b2a1908", quote(name))
	}
	number, found, err := decodeOneNumber(body, "timeout_minutes")
	if err != nil || !found {
		return Check{LogID: id}, err
	}
	minutes, err := number.Float64()
	if err != nil || minutes < 0 || minutes > MaxTimeoutMinutes {
		return Check{}, undecodable(ReasonInvalidValue, "timeout_minutes is %s: it must be a number from 0 to %d", quote(number.String()), MaxTimeoutMinutes)
	}
	timeout := time.Duration(minutes * float64(time.Minute))
	return Check{LogID: id, Timeout: &timeout}, nil
}

// DecodeSweep reads a message of publish.sweep: an empty body, or a JSON object with nothing but
// since_minutes, a whole number from [MinSinceMinutes] to [MaxSinceMinutes]. The error is a [*DecodeError].
func DecodeSweep(body []byte) (Sweep, error) {
	number, found, err := decodeOneNumber(body, "since_minutes")
	if err != nil || !found {
		return Sweep{}, err
	}
	since, err := ParseSinceMinutes(number.String())
	if err != nil {
		return Sweep{}, undecodable(ReasonInvalidValue, "%s", err)
	}
	return Sweep{Since: since}, nil
}

// ParseSinceMinutes reads a sweep's window as every door takes it: a whole number of minutes from
// [MinSinceMinutes] to [MaxSinceMinutes].
func ParseSinceMinutes(s string) (time.Duration, error) {
	minutes, err := strconv.Atoi(s)
	if err != nil || minutes < MinSinceMinutes || minutes > MaxSinceMinutes {
		return 0, fmt.Errorf("since_minutes is %s: it must be a whole number from %d to %d", quote(s), MinSinceMinutes, MaxSinceMinutes)
	}
	return time.Duration(minutes) * time.Minute, nil
}

// decodeOneNumber reads a body that is empty or an object with at most the one field, a number.
func decodeOneNumber(body []byte, field string) (number json.Number, found bool, err error) {
	if len(bytes.TrimSpace(body)) == 0 {
		return "", false, nil
	}
	fields, err := decodeObject(body)
	if err != nil {
		return "", false, err
	}
	for name := range fields {
		if name != field {
			return "", false, undecodable(ReasonUnknownField, "field %s is not known: only %s is", quote(name), field)
		}
	}
	value, found := fields[field]
	if !found {
		return "", false, nil
	}
	number, isNumber := value.(json.Number)
	if !isNumber {
		return "", false, undecodable(ReasonInvalidValue, "%s is %s: it must be a number", field, describe(value))
	}
	return number, true, nil
}

// decodeObject reads exactly one JSON object. Invalid UTF-8 and lone surrogates become U+FFFD, as
// encoding/json has it; of a field that comes twice the last one counts.
func decodeObject(body []byte) (map[string]any, error) {
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.UseNumber()
	var value any
	if err := decoder.Decode(&value); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, undecodable(ReasonMalformedJSON, "the body is empty: it must be a JSON object")
		}
		return nil, undecodable(ReasonMalformedJSON, "the body is not JSON: %s", err)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return nil, undecodable(ReasonMalformedJSON, "the body goes on after its first JSON value: it must be one JSON object")
	}
	object, ok := value.(map[string]any)
	if !ok {
		return nil, undecodable(ReasonNotAnObject, "the body is %s: it must be a JSON object", describe(value))
	}
	return object, nil
}

// IsPlatform tells whether a name can be a platform's: one subject token of 1 to [MaxPlatformBytes] bytes.
func IsPlatform(name string) bool {
	_, err := parsePlatform(name)
	return err == nil
}

func parsePlatform(token string) (string, error) {
	// Before its length is looked at: the lower case of some letters is longer.
	lower := strings.ToLower(token)
	valid := token != "" && len(lower) <= MaxPlatformBytes && utf8.ValidString(token) &&
		!strings.ContainsFunc(token, func(r rune) bool {
			return unicode.IsControl(r) || unicode.IsSpace(r) || r == '.' || r == '*' || r == '>'
		})
	if !valid {
		return "", undecodable(ReasonInvalidPlatform, "platform %s must be one subject token of 1 to %d bytes", quote(token), MaxPlatformBytes)
	}
	return lower, nil
}

func parseExternalPostID(value any) (string, error) {
	var id string
	switch v := value.(type) {
	case string:
		id = v
	case json.Number:
		decimal, ok := decimalText(v)
		if !ok {
			return "", undecodable(ReasonInvalidExternalPostID, "external_post_id is the number %s, which is out of range", quote(v.String()))
		}
		id = decimal
	default:
		return "", undecodable(ReasonInvalidExternalPostID, "external_post_id is %s: it must be a string or a number", describe(value))
	}
	if id == "" || len(id) > MaxExternalPostIDBytes || strings.ContainsRune(id, 0) {
		return "", undecodable(ReasonInvalidExternalPostID, "external_post_id %s must be 1 to %d bytes without NUL", quote(id), MaxExternalPostIDBytes)
	}
	return id, nil
}

// decimalText is a JSON number without an exponent: 1.5e3 is "1500". Exponents past three digits are
// refused before they are expanded, since 1e400000 would be 400,000 digits.
func decimalText(n json.Number) (string, bool) {
	text := n.String()
	mantissaEnd := strings.IndexAny(text, "eE")
	if mantissaEnd < 0 {
		return text, true
	}
	if len(strings.TrimLeft(text[mantissaEnd+1:], "+-0")) > 3 || len(text) > MaxExternalPostIDBytes {
		return "", false
	}
	value, ok := new(big.Rat).SetString(text)
	if !ok {
		return "", false
	}
	if value.IsInt() {
		return value.Num().String(), true
	}
	decimals, exact := value.FloatPrec()
	return value.FloatString(decimals), exact
}

// describe shows a JSON value of the wrong type in an error.
func describe(value any) string {
	switch v := value.(type) {
	case nil:
		return "null"
	case string:
		return "the string " + quote(v)
	case json.Number:
		return "the number " + quote(v.String())
	case []any:
		return "an array"
	case map[string]any:
		return "an object"
	default:
		return fmt.Sprint(v)
	}
}

// quote shows a value of unknown size and content in an error.
func quote(s string) string {
	const most = 80
	if len(s) > most {
		s = s[:most] + "…"
	}
	return strconv.Quote(s)
}
