package reconciler

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"
)

func FuzzReadWebhook(f *testing.F) {
	for _, seed := range []string{
		instagramExample, tiktokExample, youtubeExample,
		`{}`, `{"status":null,"complete":true}`, `{"status":{"a":[1]},"error":{"message":"\u0000"}}`,
		`{"status":"failed","error":[],"\u0000":"\ud800","n":1e400000,"m":-1e-400000,"o":0e-20000}`,
		`{"webhook_received":false,"webhook_status":"published","reconciled":1,"reconciliation_reason":"webhook_timeout"}`,
		`{"a":"` + strings.Repeat("ü", 1500) + `","media_url":"` + strings.Repeat("/", 2047) + `"}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		decoder := json.NewDecoder(bytes.NewReader(text))
		decoder.UseNumber()
		var fields map[string]any
		if decoder.Decode(&fields) != nil {
			t.Skip("not a JSON object")
		}
		got := ReadWebhook("tiktok", Storable(fields), noon)
		if _, err := json.Marshal(got.Fields); err != nil {
			t.Errorf("fields can't be encoded: %v", err)
		}
		if got.Verdict == NoEvidence {
			t.Error("a webhook is no evidence")
		}
		checkOwnKeys(t, got)
		for name, value := range got.Fields {
			checkText(t, "name", name)
			if value, isText := value.(string); isText {
				checkText(t, name, value)
			}
		}
		checkText(t, "Status", got.Status)
		checkText(t, "Error", got.Error)
	})
}

// fataler is what [testing.T] and rapid.T have in common here.
type fataler interface{ Errorf(string, ...any) }

// checkOwnKeys fails t where a payload has set a key of the service's own.
func checkOwnKeys(t fataler, got Evidence) {
	own := map[string]any{
		"webhook_received": true, "webhook_platform": "tiktok", "webhook_status": orNull(got.Status),
		"webhook_timestamp": got.ReceivedAt.Format("2006-01-02T15:04:05.999999999Z"),
	}
	for name, want := range own {
		if got.Fields[name] != want {
			t.Errorf("%s is %v, want %v", name, got.Fields[name], want)
		}
	}
	for _, name := range []string{"reconciled", "reconciled_at", "reconciliation_reason", "reconciliation_trigger"} {
		if value, set := got.Fields[name]; set {
			t.Errorf("the payload has set %s to %v", name, value)
		}
	}
}

func checkText(t fataler, name, text string) {
	if !utf8.ValidString(text) || len(text) > 2048 || strings.ContainsRune(text, 0) {
		t.Errorf("%s is not fit for a row: %d bytes, %q", name, len(text), text)
	}
}
