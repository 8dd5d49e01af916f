package reconciler

import (
	"encoding/json"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// The examples of the contract, section 2.
const (
	instagramExample = `{"external_post_id":"ig_123","media_url":"https://instagram.com/p/ABC/","status":"published","timestamp":"2024-01-15T10:30:00Z"}`
	tiktokExample    = `{"external_post_id":"tiktok_video_67890","task_id":"task_abc123","complete":true,"video_url":"https://www.tiktok.com/@user/video/123"}`
	youtubeExample   = `{"external_post_id":"youtube_video_XYZ789","videoId":"dQw4w9WgXcQ","publishAt":"2024-01-15T10:30:00Z","status":"published"}`
)

func TestReadWebhookVerdict(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		text    string
		verdict Verdict
		status  string
	}{
		"instagram":                    {instagramExample, Confirmed, "published"},
		"tiktok":                       {tiktokExample, Confirmed, "published"},
		"youtube":                      {youtubeExample, Confirmed, "published"},
		"case":                         {`{"status":"PubLished"}`, Confirmed, "PubLished"},
		"white space":                  {`{"status":" published\n"}`, Confirmed, " published\n"},
		"failed":                       {`{"status":"failed"}`, Refused, "failed"},
		"error":                        {`{"status":"ERROR"}`, Refused, "ERROR"},
		"rejected":                     {`{"status":"\tRejected"}`, Refused, "\tRejected"},
		"unknown word":                 {`{"status":"in_review"}`, Unclear, "in_review"},
		"part of a word":               {`{"status":"unpublished"}`, Unclear, "unpublished"},
		"no word at all":               {`{}`, Unclear, ""},
		"the field's case counts":      {`{"Status":"published"}`, Unclear, ""},
		"status null":                  {`{"status":null}`, Unclear, ""},
		"status empty":                 {`{"status":""}`, Unclear, ""},
		"status number":                {`{"status":200}`, Unclear, "200"},
		"status number out of range":   {`{"status":1e400}`, Unclear, "1e400"},
		"status true":                  {`{"status":true}`, Unclear, "true"},
		"status object":                {`{"status":{"code":"published"}}`, Unclear, ""},
		"status list":                  {`{"status":["published"]}`, Unclear, ""},
		"complete false":               {`{"complete":false}`, Unclear, ""},
		"complete as text":             {`{"complete":"true"}`, Unclear, ""},
		"complete as number":           {`{"complete":1}`, Unclear, ""},
		"complete, status null":        {`{"complete":true,"status":null}`, Confirmed, "published"},
		"complete, but failed":         {`{"complete":true,"status":"failed"}`, Refused, "failed"},
		"complete, but an unclear one": {`{"complete":true,"status":"in_review"}`, Unclear, "in_review"},
		"complete, but a status object": {
			`{"complete":true,"status":{"code":1}}`, Unclear, "",
		},
		"incomplete, yet published": {`{"complete":false,"status":"published"}`, Confirmed, "published"},
		"an error without a status": {`{"error":"Video too long"}`, Unclear, ""},
		"its own webhook_status":    {`{"webhook_status":"published"}`, Unclear, ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, platform := range []string{"tiktok", "instagram", "unheard_of"} {
				got := ReadWebhook(platform, object(t, test.text), noon)
				if got.Verdict != test.verdict || got.Status != test.status {
					t.Errorf("%s: verdict %v of status %q, want %v of %q", platform, got.Verdict, got.Status, test.verdict, test.status)
				}
			}
		})
	}
}

func TestReadWebhookErrorText(t *testing.T) {
	t.Parallel()
	tests := map[string]struct{ text, want string }{
		"all of them":      {`{"message":"5","reason":"4","fail_reason":"3","error_message":"2","error":"1"}`, "1"},
		"no error":         {`{"message":"5","reason":"4","fail_reason":"3","error_message":"2"}`, "2"},
		"no error_message": {`{"message":"5","reason":"4","fail_reason":"3"}`, "3"},
		"no fail_reason":   {`{"message":"5","reason":"4"}`, "4"},
		"only a message":   {`{"message":"5"}`, "5"},
		"none":             {`{}`, ""},
		"empty is not there": {
			`{"error":"","error_message":null,"reason":"Copyright"}`, "Copyright",
		},
		"a flag is no word": {
			`{"error":true,"error_message":false,"message":"Quota exceeded"}`, "Quota exceeded",
		},
		"a number":  {`{"error":1363}`, "1363"},
		"an object": {`{"error":{"message":"Too long","code":2207}}`, `{"code":2207,"message":"Too long"}`},
		"a list":    {`{"error":["Too long"]}`, `["Too long"]`},
		"a long object": {
			`{"error":{"m":"` + strings.Repeat("x", 3000) + `"}}`, `{"m":"` + strings.Repeat("x", 2042),
		},
		"too long": {`{"error":"` + strings.Repeat("x", 3000) + `"}`, strings.Repeat("x", 2048)},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			fields := object(t, test.text)
			fields["status"] = "failed"
			if got := ReadWebhook("tiktok", fields, noon).Error; got != test.want {
				t.Errorf("error is %q, want %q", got, test.want)
			}
			fields["status"] = "in_review"
			if got := ReadWebhook("tiktok", fields, noon).Error; got != "" {
				t.Errorf("without a refusal: error is %q", got)
			}
		})
	}
}

func TestReadWebhookURL(t *testing.T) {
	t.Parallel()
	long := "https://example.com/" + strings.Repeat("x", 2048)
	tests := map[string]struct{ text, want string }{
		"instagram":         {instagramExample, "https://instagram.com/p/ABC/"},
		"tiktok":            {tiktokExample, "https://www.tiktok.com/@user/video/123"},
		"youtube":           {youtubeExample, "https://www.youtube.com/watch?v=dQw4w9WgXcQ"},
		"media_url first":   {`{"videoId":"x","video_url":"https://v/","media_url":"https://m/"}`, "https://m/"},
		"then video_url":    {`{"videoId":"x","video_url":"https://v/","media_url":""}`, "https://v/"},
		"videoId escaped":   {`{"videoId":"a b&c=/ü"}`, "https://www.youtube.com/watch?v=a+b%26c%3D%2F%C3%BC"},
		"no text":           {`{"media_url":7,"video_url":{"href":"https://v/"},"videoId":null}`, ""},
		"none":              {`{}`, ""},
		"too long":          {`{"media_url":"` + long + `"}`, ""},
		"too long, another": {`{"media_url":"` + long + `","video_url":"https://v/"}`, "https://v/"},
		"whatever status":   {`{"media_url":"https://m/","status":"in_review"}`, "https://m/"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := evidence(t, test.text).URL; got != test.want {
				t.Errorf("URL is %q, want %q", got, test.want)
			}
		})
	}
}

func TestReadWebhookFields(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 2047)
	// with is what every webhook writes, with some fields more.
	with := func(more map[string]any) map[string]any {
		fields := map[string]any{
			"webhook_received": true, "webhook_platform": "tiktok",
			"webhook_timestamp": "2024-01-15T12:00:00.123456Z", "webhook_status": nil,
		}
		maps.Copy(fields, more)
		return fields
	}
	tests := map[string]struct {
		text string
		want map[string]any
	}{
		"nothing": {`{}`, with(nil)},
		"instagram": {instagramExample, with(map[string]any{
			"webhook_status": "published", "media_url": "https://instagram.com/p/ABC/", "timestamp": "2024-01-15T10:30:00Z",
		})},
		"tiktok": {tiktokExample, with(map[string]any{
			"webhook_status": "published", "task_id": "task_abc123", "complete": true, "video_url": "https://www.tiktok.com/@user/video/123",
		})},
		"youtube": {youtubeExample, with(map[string]any{
			"webhook_status": "published", "videoId": "dQw4w9WgXcQ", "publishAt": "2024-01-15T10:30:00Z",
		})},
		"the status as sent": {`{"status":" In Review"}`, with(map[string]any{"webhook_status": " In Review"})},
		"scalars only": {
			`{"views":12,"share":1.50,"live":false,"region":null,"user":{"id":1},"tags":["a"]}`,
			with(map[string]any{"views": json.Number("12"), "share": json.Number("1.50"), "live": false, "region": nil}),
		},
		"no key of the service's own": {
			`{"webhook_received":false,"webhook_timestamp":"x","webhook_platform":"x","webhook_status":"published",
			  "reconciled":true,"reconciled_at":"x","reconciliation_reason":"webhook_timeout","reconciliation_trigger":"x"}`,
			with(nil),
		},
		"a long string is cut": {`{"text":"` + long + `yz"}`, with(map[string]any{"text": long + "y"})},
		"between two runes":    {`{"text":"` + long + `üz"}`, with(map[string]any{"text": long})},
		"but not a fitting one": {
			`{"text":"` + long[1:] + `ü"}`, with(map[string]any{"text": long[1:] + "ü"}),
		},
		"a long name is left out": {`{"` + long + `yz":1}`, with(nil)},
		"U+0000":                  {`{"a\u0000b":"c\u0000d"}`, with(map[string]any{"a\uFFFDb": "c\uFFFDd"})},
		"a lone surrogate":        {`{"a\ud800":"\udc00b"}`, with(map[string]any{"a\uFFFD": "\uFFFDb"})},
		"a number out of range":   {`{"views":1e400000}`, with(map[string]any{"views": "1e400000"})},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(test.want, evidence(t, test.text).Fields); diff != "" {
				t.Errorf("fields (-want +got):\n%s", diff)
			}
		})
	}
}

func TestReadWebhookTellsTheTimeInUTC(t *testing.T) {
	t.Parallel()
	at := noon.In(time.FixedZone("", 2*60*60))
	got := ReadWebhook("tiktok", nil, at)
	if !got.ReceivedAt.Equal(noon) || got.Fields["webhook_timestamp"] != "2024-01-15T12:00:00.123456Z" {
		t.Errorf("received at %v, recorded as %v", got.ReceivedAt, got.Fields["webhook_timestamp"])
	}
}

func TestStorable(t *testing.T) {
	t.Parallel()
	number := func(text string) string { return `{"n":` + text + `}` }
	digits := strings.Repeat("1", 300)
	tests := map[string]struct{ text, want string }{
		"plain":                   {`{"a":"b","n":1.50,"t":true,"z":null}`, `{"a":"b","n":1.50,"t":true,"z":null}`},
		"U+0000 in a value":       {`{"a":"\u0000b\u0000"}`, `{"a":"�b�"}`},
		"U+0000 in a key":         {`{"\u0000a":1}`, `{"�a":1}`},
		"deep down":               {`{"a":[{"\u0000":["\u0000",1e999]}]}`, `{"a":[{"�":["�","1e999"]}]}`},
		"a lone surrogate":        {`{"a":"\ud800"}`, `{"a":"�"}`},
		"large":                   {number("1e308"), number("1e308")},
		"too large":               {number("1e400"), number(`"1e400"`)},
		"far too large":           {number("1e400000"), number(`"1e400000"`)},
		"too large, negative":     {number("-1E400"), number(`"-1E400"`)},
		"small":                   {number("1e-300"), number("1e-300")},
		"too small":               {number("1e-400000"), number(`"1e-400000"`)},
		"too small, negative":     {number("-12.5E-400"), number(`"-12.5E-400"`)},
		"zero":                    {number("0"), number("0")},
		"zero with an exponent":   {number("0.0E-7"), number("0.0E-7")},
		"zero, scale too large":   {number("0e-20000"), number(`"0e-20000"`)},
		"zero, exponent overflow": {number("0e9999999999"), number(`"0e9999999999"`)},
		"many digits":             {number("0." + digits), number("0." + digits)},
		"too many digits":         {number("0." + digits + digits), number(`"0.` + digits + digits + `"`)},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			want := object(t, test.want)
			if diff := cmp.Diff(want, Storable(object(t, test.text))); diff != "" {
				t.Errorf("storable (-want +got):\n%s", diff)
			}
		})
	}
}
