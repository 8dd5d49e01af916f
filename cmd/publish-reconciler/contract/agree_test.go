package contract_test

import (
	"encoding/json"
	"strings"
	"testing"

	"publish-reconciler/cmd/publish-reconciler/contract/contracttest"
	"publish-reconciler/streams"
)

const logID = "6f1c2d3e-4b5a-4978-8f6e-5d4c3b2a1908"

// decoders are what the service reads each message with.
var decoders = map[string]func(body []byte) error{
	"webhook": func(body []byte) error {
		_, err := streams.DecodeWebhook("publish.webhook.instagram", body)
		return err
	},
	"check": func(body []byte) error {
		_, err := streams.DecodeCheck("publish.check."+logID, body)
		return err
	},
	"sweep": func(body []byte) error {
		_, err := streams.DecodeSweep(body)
		return err
	},
	"probeReply": func(body []byte) error {
		_, err := streams.DecodeProbe(streams.ProbeRequest{ExternalPostID: "ig_1"}, body)
		return err
	},
}

// bodies are what messages may look like, each held against every decoder and its schema.
var bodies = []string{
	``, ` `, `{}`, ` {} `, `null`, `[]`, `"x"`, `1`, `true`, `{`, `{}{}`, `{} x`, "\xff", "{\"a\":\"\xff\"}", `{"a":1,}`, `{'a':1}`, "\ufeff{}",
	`{"external_post_id":"ig_1"}`, `{"external_post_id":""}`, `{"external_post_id":null}`, `{"external_post_id":true}`, `{"external_post_id":[]}`,
	`{"external_post_id":{}}`, `{"external_post_id":"a\u0000b"}`, `{"external_post_id":" "}`, `{"external_post_id":"é\nü"}`, `{"external_post_id":"\ud800"}`,
	`{"external_post_id":17841405822304914}`, `{"external_post_id":-1.50}`, `{"external_post_id":1.5e3}`, `{"external_post_id":1E-3}`, `{"External_post_id":"ig_1"}`,
	`{"external_post_id":"ig_1","external_post_id":7}`, `{"external_post_id":7,"external_post_id":null}`,
	`{"external_post_id":"ig_1","status":7,"complete":"yes","raw":{"a":[1]},"media_url":null}`,
	`{"external_post_id":"` + strings.Repeat("a", streams.MaxExternalPostIDBytes) + `"}`, `{"external_post_id":"` + strings.Repeat("a", streams.MaxExternalPostIDBytes+1) + `"}`,
	`{"timeout_minutes":0}`, `{"timeout_minutes":-0}`, `{"timeout_minutes":0.5}`, `{"timeout_minutes":1e2}`, `{"timeout_minutes":5270400}`, `{"timeout_minutes":5270401}`,
	`{"timeout_minutes":-1}`, `{"timeout_minutes":-1e-9}`, `{"timeout_minutes":1e400}`, `{"timeout_minutes":1e-400}`, `{"timeout_minutes":"5"}`, `{"timeout_minutes":null}`,
	`{"timeout_minutes":5,"x":1}`, `{"timeout":5}`, `{"Timeout_minutes":5}`,
	`{"since_minutes":1}`, `{"since_minutes":1440}`, `{"since_minutes":0}`, `{"since_minutes":1441}`, `{"since_minutes":-1}`, `{"since_minutes":1.5}`,
	`{"since_minutes":"10"}`, `{"since_minutes":null}`, `{"since_minutes":10,"x":1}`, `{"since_minutes":99999999999999999999}`,
}

// A producer whose message the schemas take is not refused by the service, and the other way round.
func TestDecodersAgree(t *testing.T) {
	t.Parallel()
	c := contracttest.Load(t)
	for message := range decoders {
		taken := 0
		for _, body := range bodies {
			if sayable(message, []byte(body)) && agree(t, c, message, []byte(body)) {
				taken++
			}
		}
		if taken == 0 || taken == len(bodies) {
			t.Errorf("%s: %d of %d bodies are taken: the others show nothing", message, taken, len(bodies))
		}
	}
}

// What JSON Schema can't say: these the schemas take, and the service does not.
func TestDecodersAreStricter(t *testing.T) {
	t.Parallel()
	c := contracttest.Load(t)
	for name, tt := range map[string]struct{ message, body string }{
		"bytes, not characters":        {"webhook", `{"external_post_id":"` + strings.Repeat("é", streams.MaxExternalPostIDBytes) + `"}`},
		"digits of a number":           {"webhook", `{"external_post_id":1` + strings.Repeat("0", streams.MaxExternalPostIDBytes) + `}`},
		"an exponent past its digits":  {"webhook", `{"external_post_id":1e4000}`},
		"a whole number with a point":  {"sweep", `{"since_minutes":10.0}`},
		"a whole number with an e":     {"sweep", `{"since_minutes":1e1}`},
		"a post that was not asked of": {"probeReply", `{"external_post_id":"ig_2"}`},
	} {
		decoded, schema := decoders[tt.message]([]byte(tt.body)), c.Validate(tt.message, nil, []byte(tt.body))
		if decoded == nil || schema != nil {
			t.Errorf("%s: the decoder says %v, the schema %v", name, decoded, schema)
		}
		if sayable(tt.message, []byte(tt.body)) {
			t.Errorf("%s: the fuzz target would take it for a fault", name)
		}
	}
}

func FuzzDecodersAgree(f *testing.F) {
	for _, body := range bodies {
		f.Add([]byte(body))
	}
	c := contracttest.Load(f)
	f.Fuzz(func(t *testing.T, body []byte) {
		for message := range decoders {
			if sayable(message, body) {
				agree(t, c, message, body)
			}
		}
	})
}

// agree tells whether both take a body. It is a fault where only one of them does.
func agree(t *testing.T, c *contracttest.Contract, message string, body []byte) bool {
	t.Helper()
	decoded, schema := decoders[message](body), c.Validate(message, nil, body)
	if (decoded == nil) != (schema == nil) {
		t.Errorf("%s %q: the decoder says %v, the schema %v", message, body, decoded, schema)
	}
	return decoded == nil
}

// sayable tells whether JSON Schema can say what [TestDecodersAreStricter] lists of a body.
func sayable(message string, body []byte) bool {
	decoder := json.NewDecoder(strings.NewReader(string(body)))
	decoder.UseNumber()
	var fields map[string]any
	if decoder.Decode(&fields) != nil {
		return true
	}
	switch id := fields["external_post_id"].(type) {
	case string:
		if len(id) > streams.MaxExternalPostIDBytes {
			return false
		}
	case json.Number:
		if len(id) > streams.MaxExternalPostIDBytes || strings.ContainsAny(id.String(), "eE") {
			return false
		}
	}
	if message == "probeReply" {
		return fields["external_post_id"] == nil || fields["external_post_id"] == "ig_1"
	}
	for _, value := range fields {
		if number, is := value.(json.Number); is && strings.ContainsAny(number.String(), ".eE") && message != "webhook" {
			return false
		}
	}
	return true
}
