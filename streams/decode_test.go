package streams_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"pgregory.net/rapid"

	"publish-reconciler/streams"
)

// The examples of the contract, word for word.
const (
	instagramBody = `{"external_post_id":"ig_123","media_url":"https://instagram.com/p/ABC/","status":"published","timestamp":"2024-01-15T10:30:00Z"}`
	tiktokBody    = `{"external_post_id":"tiktok_video_67890","task_id":"task_abc123","complete":true,"video_url":"https://www.tiktok.com/@user/video/123"}`
	youtubeBody   = `{"external_post_id":"youtube_video_XYZ789","videoId":"dQw4w9WgXcQ","publishAt":"2024-01-15T10:30:00Z","status":"published"}`
)

func TestDecodeWebhook(t *testing.T) {
	t.Parallel()
	id := func(raw string) string { return `{"external_post_id":` + raw + `}` }
	longest := strings.Repeat("x", streams.MaxExternalPostIDBytes)
	longestPlatform := strings.Repeat("p", streams.MaxPlatformBytes)
	for name, test := range map[string]struct {
		platform, body       string
		wantPlatform, wantID string
		wantFieldName        string
		wantField            any
	}{
		"instagram":             {"instagram", instagramBody, "instagram", "ig_123", "media_url", "https://instagram.com/p/ABC/"},
		"tiktok":                {"tiktok", tiktokBody, "tiktok", "tiktok_video_67890", "complete", true},
		"youtube":               {"youtube", youtubeBody, "youtube", "youtube_video_XYZ789", "videoId", "dQw4w9WgXcQ"},
		"unknown platform":      {"a-new_one:2", id(`"x"`), "a-new_one:2", "x", "external_post_id", "x"},
		"upper case platform":   {"InstaGRAM", id(`"x"`), "instagram", "x", "external_post_id", "x"},
		"foreign letters":       {"ВКонтакте", id(`"x"`), "вконтакте", "x", "external_post_id", "x"},
		"longest platform":      {longestPlatform, id(`"x"`), longestPlatform, "x", "external_post_id", "x"},
		"number":                {"p", id(`123`), "p", "123", "external_post_id", json.Number("123")},
		"negative number":       {"p", id(`-7`), "p", "-7", "external_post_id", json.Number("-7")},
		"number past an int64":  {"p", id(`12345678901234567890`), "p", "12345678901234567890", "external_post_id", json.Number("12345678901234567890")},
		"fraction":              {"p", id(`1.50`), "p", "1.50", "external_post_id", json.Number("1.50")},
		"exponent":              {"p", id(`1e3`), "p", "1000", "external_post_id", json.Number("1e3")},
		"fraction and exponent": {"p", id(`1.5e3`), "p", "1500", "external_post_id", json.Number("1.5e3")},
		"negative exponent":     {"p", id(`15E-1`), "p", "1.5", "external_post_id", json.Number("15E-1")},
		"exponent with zeros":   {"p", id(`2e+0000001`), "p", "20", "external_post_id", json.Number("2e+0000001")},
		"longest id":            {"p", id(`"` + longest + `"`), "p", longest, "external_post_id", longest},
		"invalid UTF-8":         {"p", id("\"a\xffb\""), "p", "a\uFFFDb", "external_post_id", "a\uFFFDb"},
		"lone surrogate":        {"p", id(`"a\ud800b"`), "p", "a\uFFFDb", "external_post_id", "a\uFFFDb"},
		"NUL in another field":  {"p", `{"external_post_id":"x","status":"\u0000"}`, "p", "x", "status", "\x00"},
		"last of two counts":    {"p", `{"external_post_id":"x","external_post_id":"y"}`, "p", "y", "external_post_id", "y"},
		"white space around":    {"p", " \n" + id(`"x"`) + "\r\n\t ", "p", "x", "external_post_id", "x"},
		"fields of every kind":  {"p", `{"external_post_id":"x","a":[1,{"b":null}]}`, "p", "x", "a", []any{json.Number("1"), map[string]any{"b": nil}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			webhook, err := streams.DecodeWebhook(streams.WebhookSubject(test.platform), []byte(test.body))
			if err != nil {
				t.Fatal(err)
			}
			if webhook.Platform != test.wantPlatform || webhook.ExternalPostID != test.wantID {
				t.Errorf("platform %q, id %q", webhook.Platform, webhook.ExternalPostID)
			}
			if diff := cmp.Diff(test.wantField, webhook.Fields[test.wantFieldName]); diff != "" {
				t.Errorf("field %s (-want +got):\n%s", test.wantFieldName, diff)
			}
		})
	}
}

func TestDecodeWebhookRefuses(t *testing.T) {
	t.Parallel()
	const allowedID = "must be 1 to 1024 bytes without NUL"
	id := func(raw string) string { return `{"external_post_id":` + raw + `}` }
	for name, test := range map[string]struct {
		platform, body string
		reason         streams.Reason
		detail         []string
	}{
		"empty body":             {"p", "", streams.ReasonMalformedJSON, []string{"empty", "must be a JSON object"}},
		"blank body":             {"p", " \n", streams.ReasonMalformedJSON, []string{"empty", "must be a JSON object"}},
		"no JSON":                {"p", "hello", streams.ReasonMalformedJSON, []string{"not JSON", "'h'"}},
		"cut short":              {"p", `{"external_post_id":"x"`, streams.ReasonMalformedJSON, []string{"not JSON"}},
		"two values":             {"p", id(`"x"`) + id(`"y"`), streams.ReasonMalformedJSON, []string{"goes on after its first JSON value"}},
		"value and rubbish":      {"p", id(`"x"`) + "\x00", streams.ReasonMalformedJSON, []string{"goes on after its first JSON value"}},
		"20,000 brackets":        {"p", `{"external_post_id":"x","a":` + strings.Repeat("[", 20_000) + strings.Repeat("]", 20_000) + `}`, streams.ReasonMalformedJSON, []string{"depth"}},
		"array":                  {"p", `["x"]`, streams.ReasonNotAnObject, []string{"an array", "must be a JSON object"}},
		"null":                   {"p", `null`, streams.ReasonNotAnObject, []string{"null", "must be a JSON object"}},
		"string":                 {"p", `"hi"`, streams.ReasonNotAnObject, []string{`the string "hi"`, "must be a JSON object"}},
		"no id":                  {"p", `{"status":"published"}`, streams.ReasonMissingExternalPostID, []string{"external_post_id is missing", "string or a number"}},
		"id in wrong case":       {"p", `{"External_Post_ID":"x"}`, streams.ReasonMissingExternalPostID, []string{"external_post_id is missing"}},
		"id null":                {"p", id(`null`), streams.ReasonInvalidExternalPostID, []string{"is null", "must be a string or a number"}},
		"id object":              {"p", id(`{}`), streams.ReasonInvalidExternalPostID, []string{"is an object", "must be a string or a number"}},
		"id array":               {"p", id(`[]`), streams.ReasonInvalidExternalPostID, []string{"is an array", "must be a string or a number"}},
		"id true":                {"p", id(`true`), streams.ReasonInvalidExternalPostID, []string{"is true", "must be a string or a number"}},
		"id empty":               {"p", id(`""`), streams.ReasonInvalidExternalPostID, []string{`""`, allowedID}},
		"id with NUL":            {"p", id(`"a\u0000b"`), streams.ReasonInvalidExternalPostID, []string{`"a\x00b"`, allowedID}},
		"id of 1,025 bytes":      {"p", id(`"` + strings.Repeat("x", 1025) + `"`), streams.ReasonInvalidExternalPostID, []string{"xxx…", allowedID}},
		"id of 1,025 digits":     {"p", id(strings.Repeat("7", 1025)), streams.ReasonInvalidExternalPostID, []string{"777…", allowedID}},
		"id of 400,000 digits":   {"p", id(`1e400000`), streams.ReasonInvalidExternalPostID, []string{`"1e400000"`, "out of range"}},
		"id of as many behind":   {"p", id(`1e-400000`), streams.ReasonInvalidExternalPostID, []string{`"1e-400000"`, "out of range"}},
		"id of 1,100 digits":     {"p", id(strings.Repeat("7", 200) + "e900"), streams.ReasonInvalidExternalPostID, []string{"777", allowedID}},
		"no platform":            {"", id(`"x"`), streams.ReasonInvalidPlatform, []string{`""`, "one subject token of 1 to 128 bytes"}},
		"two tokens":             {"a.b", id(`"x"`), streams.ReasonInvalidPlatform, []string{`"a.b"`, "one subject token"}},
		"wildcard":               {"*", id(`"x"`), streams.ReasonInvalidPlatform, []string{`"*"`, "one subject token"}},
		"full wildcard":          {">", id(`"x"`), streams.ReasonInvalidPlatform, []string{`">"`, "one subject token"}},
		"space":                  {"a b", id(`"x"`), streams.ReasonInvalidPlatform, []string{`"a b"`, "one subject token"}},
		"no-break space":         {"a\u00a0b", id(`"x"`), streams.ReasonInvalidPlatform, []string{`"a\u00a0b"`, "one subject token"}},
		"control character":      {"a\x7f", id(`"x"`), streams.ReasonInvalidPlatform, []string{`"a\x7f"`, "one subject token"}},
		"platform not UTF-8":     {"a\xff", id(`"x"`), streams.ReasonInvalidPlatform, []string{`"a\xff"`, "one subject token"}},
		"platform too long":      {strings.Repeat("p", 129), id(`"x"`), streams.ReasonInvalidPlatform, []string{"ppp…", "1 to 128 bytes"}},
		"lower case is too long": {strings.Repeat("Ⱥ", 64), id(`"x"`), streams.ReasonInvalidPlatform, []string{"Ⱥ", "1 to 128 bytes"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			webhook, err := streams.DecodeWebhook(streams.WebhookSubject(test.platform), []byte(test.body))
			if err == nil {
				t.Fatalf("decoded as %+v", webhook)
			}
			refused(t, err, test.reason, test.detail...)
		})
	}
}

func TestDecodeCheck(t *testing.T) {
	t.Parallel()
	const id = "6f1c2d3e-4b5a-4978-8f6e-5d4c3b2a1908"
	minutes := func(n float64) *time.Duration { d := time.Duration(n * float64(time.Minute)); return &d }
	for name, test := range map[string]struct {
		token, body string
		want        *time.Duration
	}{
		"empty":       {id, "", nil},
		"blank":       {id, " \r\n", nil},
		"no field":    {id, "{}", nil},
		"upper case":  {strings.ToUpper(id), "", nil},
		"no patience": {id, `{"timeout_minutes":0}`, minutes(0)},
		"half":        {id, `{"timeout_minutes":0.5}`, minutes(0.5)},
		"ten":         {id, `{"timeout_minutes": 10}`, minutes(10)},
		"exponent":    {id, `{"timeout_minutes":1e1}`, minutes(10)},
		"ten years":   {id, `{"timeout_minutes":5270400}`, minutes(5270400)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			check, err := streams.DecodeCheck("publish.check."+test.token, []byte(test.body))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(streams.Check{LogID: uuid.MustParse(id), Timeout: test.want}, check); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}

	const allowed = "must be a number from 0 to 5270400"
	for name, test := range map[string]struct {
		token, body string
		reason      streams.Reason
		detail      []string
	}{
		"no id":           {"", "", streams.ReasonInvalidLogID, []string{`""`, "not a UUID such as"}},
		"odd id":          {"42", "", streams.ReasonInvalidLogID, []string{`"42"`, "not a UUID such as"}},
		"braces":          {"{" + id + "}", "", streams.ReasonInvalidLogID, []string{"{6f1c", "not a UUID such as"}},
		"URN":             {"urn:uuid:" + id, "", streams.ReasonInvalidLogID, []string{"urn:uuid", "not a UUID such as"}},
		"no hyphens":      {strings.ReplaceAll(id, "-", ""), "", streams.ReasonInvalidLogID, []string{"6f1c2d3e4b", "not a UUID such as"}},
		"negative":        {id, `{"timeout_minutes":-1}`, streams.ReasonInvalidValue, []string{`timeout_minutes is "-1"`, allowed}},
		"past ten years":  {id, `{"timeout_minutes":5270400.1}`, streams.ReasonInvalidValue, []string{`"5270400.1"`, allowed}},
		"1e300":           {id, `{"timeout_minutes":1e300}`, streams.ReasonInvalidValue, []string{`"1e300"`, allowed}},
		"past a float64":  {id, `{"timeout_minutes":1e999}`, streams.ReasonInvalidValue, []string{`"1e999"`, allowed}},
		"string":          {id, `{"timeout_minutes":"10"}`, streams.ReasonInvalidValue, []string{`timeout_minutes is the string "10"`, "must be a number"}},
		"null":            {id, `{"timeout_minutes":null}`, streams.ReasonInvalidValue, []string{`timeout_minutes is null`, "must be a number"}},
		"unknown field":   {id, `{"timeout":1}`, streams.ReasonUnknownField, []string{`"timeout"`, "only timeout_minutes"}},
		"one field more":  {id, `{"timeout_minutes":1,"note":"x"}`, streams.ReasonUnknownField, []string{`"note"`, "only timeout_minutes"}},
		"in wrong case":   {id, `{"Timeout_Minutes":1}`, streams.ReasonUnknownField, []string{`"Timeout_Minutes"`, "only timeout_minutes"}},
		"number":          {id, `10`, streams.ReasonNotAnObject, []string{`the number "10"`, "must be a JSON object"}},
		"no JSON":         {id, `timeout_minutes=10`, streams.ReasonMalformedJSON, []string{"not JSON"}},
		"two values":      {id, `{} {}`, streams.ReasonMalformedJSON, []string{"goes on after its first JSON value"}},
		"20,000 brackets": {id, strings.Repeat("[", 20_000), streams.ReasonMalformedJSON, []string{"depth"}},
	} {
		t.Run("refuses "+name, func(t *testing.T) {
			t.Parallel()
			_, err := streams.DecodeCheck("publish.check."+test.token, []byte(test.body))
			refused(t, err, test.reason, test.detail...)
		})
	}
}

func TestDecodeSweep(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]time.Duration{
		"": 0, " ": 0, "{}": 0,
		`{"since_minutes":1}`:    time.Minute,
		`{"since_minutes":10}`:   10 * time.Minute,
		`{"since_minutes":1440}`: 24 * time.Hour,
	} {
		if sweep, err := streams.DecodeSweep([]byte(body)); err != nil || sweep.Since != want {
			t.Errorf("%s: %s, %v", body, sweep.Since, err)
		}
	}
	const allowed = "must be a whole number from 1 to 1440"
	for body, test := range map[string]struct {
		reason streams.Reason
		detail []string
	}{
		`{"since_minutes":0}`:    {streams.ReasonInvalidValue, []string{`since_minutes is "0"`, allowed}},
		`{"since_minutes":-1}`:   {streams.ReasonInvalidValue, []string{`since_minutes is "-1"`, allowed}},
		`{"since_minutes":1441}`: {streams.ReasonInvalidValue, []string{`since_minutes is "1441"`, allowed}},
		`{"since_minutes":1.5}`:  {streams.ReasonInvalidValue, []string{`since_minutes is "1.5"`, allowed}},
		// Spelled as no person or program spells a number of minutes; refused at every door alike.
		`{"since_minutes":1e1}`:                  {streams.ReasonInvalidValue, []string{`since_minutes is "1e1"`, allowed}},
		`{"since_minutes":99999999999999999999}`: {streams.ReasonInvalidValue, []string{"99999999999999999999", allowed}},
		`{"since_minutes":"10"}`:                 {streams.ReasonInvalidValue, []string{`the string "10"`, "must be a number"}},
		`{"since":10}`:                           {streams.ReasonUnknownField, []string{`"since"`, "only since_minutes"}},
		`[]`:                                     {streams.ReasonNotAnObject, []string{"an array", "must be a JSON object"}},
		`{`:                                      {streams.ReasonMalformedJSON, []string{"not JSON"}},
	} {
		t.Run("refuses "+body, func(t *testing.T) {
			t.Parallel()
			_, err := streams.DecodeSweep([]byte(body))
			refused(t, err, test.reason, test.detail...)
		})
	}
}

// What a producer writes is what the service reads.
func TestCheckSurvivesItsMessage(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		timeout := time.Duration(rapid.Int64Range(0, int64(streams.MaxTimeoutMinutes*time.Minute)).Draw(t, "timeout"))
		if rapid.Bool().Draw(t, "whole seconds") {
			timeout = timeout.Truncate(time.Second)
		}
		want := streams.Check{LogID: uuid.New(), Timeout: &timeout}
		got, err := streams.DecodeCheck(streams.CheckSubject(want.LogID), streams.Body(want))
		if err != nil {
			t.Fatal(err)
		}
		// A float64 of minutes is exact to well under a microsecond over ten years.
		if got.LogID != want.LogID || (*got.Timeout-timeout).Abs() > time.Microsecond {
			t.Fatalf("sent %s, read %s", timeout, *got.Timeout)
		}
	})
}

func refused(t *testing.T, err error, reason streams.Reason, detail ...string) {
	t.Helper()
	var undecodable *streams.DecodeError
	if !errors.As(err, &undecodable) {
		t.Fatalf("error is %#v", err)
	}
	if undecodable.Reason != reason {
		t.Errorf("reason is %s, want %s", undecodable.Reason, reason)
	}
	for _, part := range detail {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("error is %q, which does not say %q", err, part)
		}
	}
	if len(err.Error()) > 400 {
		t.Errorf("error has %d bytes", len(err.Error()))
	}
}
