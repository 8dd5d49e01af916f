package contract_test

import (
	"encoding/json"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	"publish-reconciler/cmd/publish-reconciler/contract/contracttest"
)

func TestExamples(t *testing.T) {
	t.Parallel()
	c := contracttest.Load(t)
	for _, message := range c.Names("components", "messages") {
		examples := c.Examples(t, message)
		if len(examples) == 0 {
			t.Errorf("%s has no example", message)
		}
		for _, example := range examples {
			if err := c.Validate(message, example.Header, example.Body); err != nil {
				t.Errorf("example %s of %s: %v", example.Name, message, err)
			}
		}
	}
}

// No schema takes just anything: of each example every single field and header is taken away, and made what it can't
// be, and so is the whole.
func TestSchemasRefuse(t *testing.T) {
	t.Parallel()
	c := contracttest.Load(t)
	// What a platform says, and what stands in rows and receipts: whatever JSON it is.
	free := regexp.MustCompile(`^(webhook|probeReply) |^logAnswer (extra_metadata|history metadata)|^logsAnswer logs extra_metadata`)
	for _, message := range c.Names("components", "messages") {
		for _, example := range c.Examples(t, message) {
			for name := range example.Header {
				wrong := maps.Clone(example.Header)
				wrong[name] = []string{""}
				if err := c.Validate(message, wrong, example.Body); err == nil {
					t.Errorf("%s takes the header %s empty", message, name)
				}
			}
			if message == "deadLetter" { // its body is any message's, or none's
				continue
			}
			var body any
			if err := json.Unmarshal(example.Body, &body); err != nil {
				t.Fatal(err)
			}
			for _, whole := range []string{`null`, `[]`, `[{}]`, `"text"`, `1`, `true`, `{`, `{}{}`} {
				if c.Validate(message, example.Header, []byte(whole)) == nil {
					t.Errorf("%s takes %s", message, whole)
				}
			}
			mutate(body, "", func(path string) {
				text, err := json.Marshal(body)
				if err != nil {
					t.Fatal(err)
				}
				isFree := free.MatchString(message+path) && !strings.HasSuffix(path, "external_post_id")
				if c.Validate(message, example.Header, text) == nil && !isFree {
					t.Errorf("%s takes a wrong%s: %s", message, path, text)
				}
			})
		}
	}
}

// mutate makes every field of a JSON value wrong, one after the other, and calls try each time with its place. A list
// of a list is what no field here can be.
func mutate(value any, path string, try func(path string)) {
	switch v := value.(type) {
	case map[string]any:
		for _, field := range slices.Sorted(maps.Keys(v)) {
			right := v[field]
			v[field] = []any{[]any{}}
			try(path + " " + field)
			v[field] = right
			mutate(right, path+" "+field, try)
		}
	case []any:
		for _, item := range v {
			mutate(item, path, try)
		}
	}
}

// What the service asks of requests, beside their types.
func TestRequestsRefuse(t *testing.T) {
	t.Parallel()
	c := contracttest.Load(t)
	override := func(field, value string) string {
		fields := map[string]json.RawMessage{"log_id": json.RawMessage(`"` + logID + `"`), "status": json.RawMessage(`"failed"`), "actor": json.RawMessage(`"ana"`)}
		if delete(fields, field); value != "" {
			fields[field] = json.RawMessage(value)
		}
		text, err := json.Marshal(fields)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	for message, bodies := range map[string][]string{
		"reconcileRequest": {`{"since_minutes":0}`, `{"since_minutes":1441}`, `{"since_minutes":1.5}`, `{"since":1}`},
		"overrideRequest": {
			override("log_id", ""), override("status", ""), override("actor", ""), override("log_id", `"ig_1"`), override("log_id", `"`+strings.ReplaceAll(logID, "-", "")+`"`),
			override("status", `"retry"`), override("actor", `""`), override("actor", `" \t"`), override("actor", `"a\u0000"`), override("note", `"a\u0000"`), override("note", `null`),
			override("note", `"`+strings.Repeat("a", 2049)+`"`), override("why", `"x"`),
		},
		"logRequest":    {``, `{}`, `{"log_id":"ig_1"}`, `{"log_id":"` + logID + `","id":1}`},
		"logsRequest":   {`{"status":"skipped"}`, `{"reason":"not due"}`, `{"before":"yesterday"}`, `{"limit":0}`, `{"limit":501}`, `{"platform":"` + strings.Repeat("a", 129) + `"}`, `{"page":1}`},
		"statusRequest": {`{"verbose":true}`},
	} {
		if example := c.Examples(t, message)[0]; c.Validate(message, nil, example.Body) != nil {
			t.Errorf("%s needs headers", message)
		}
		for _, body := range bodies {
			if c.Validate(message, nil, []byte(body)) == nil {
				t.Errorf("%s takes %s", message, body)
			}
		}
	}
	if err := c.Validate("overrideRequest", nil, []byte(override("", ""))); err != nil {
		t.Error(err)
	}
}
