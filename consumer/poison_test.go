package consumer_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"publish-reconciler/streams"
)

// poison is a message between good ones: it dies for a reason, or it is stored as its row tells.
type poison struct {
	subject string // empty: Instagram's webhooks; of a check: a check of a log that is there
	body    string
	// reason is the dead letter's, and says a part of its error.
	reason, says string
	// Of a message that does not die: the log's post and platform (empty: Instagram), what becomes of it, and what
	// the row then holds of the payload, as JSON, without the service's own keys.
	post, platform string
	status         string
	kept           string
}

var (
	deep   = strings.Repeat("[", 20_000) + strings.Repeat("]", 20_000)
	nested = strings.Repeat(`{"a":[`, 400) + strings.Repeat("]}", 400)
	huge   = strings.Repeat("x", 700_000)
)

// badWebhooks is the corpus of webhooks.
var badWebhooks = map[string]poison{
	// Those that can't be understood.
	"empty":                     {body: "", reason: "malformed_json", says: "the body is empty"},
	"no JSON":                   {body: "published", reason: "malformed_json", says: "not JSON"},
	"cut short":                 {body: `{"external_post_id":"x","status":"publ`, reason: "malformed_json", says: "not JSON"},
	"a form":                    {body: "external_post_id=x&status=published", reason: "malformed_json", says: "not JSON"},
	"single quotes":             {body: `{'external_post_id':'x'}`, reason: "malformed_json", says: "not JSON"},
	"comma at the end":          {body: `{"external_post_id":"x",}`, reason: "malformed_json", says: "not JSON"},
	"not a number":              {body: `{"external_post_id":"x","n":NaN}`, reason: "malformed_json", says: "not JSON"},
	"byte order mark":           {body: "\ufeff" + published("x"), reason: "malformed_json", says: "not JSON"},
	"UTF-16":                    {body: "{\x00\"\x00a\x00\"\x00:\x001\x00}\x00", reason: "malformed_json", says: "not JSON"},
	"control character":         {body: "{\"external_post_id\":\"a\nb\"}", reason: "malformed_json", says: "not JSON"},
	"two values":                {body: published("x") + published("y"), reason: "malformed_json", says: "goes on after its first JSON value"},
	"zero byte behind":          {body: published("x") + "\x00", reason: "malformed_json", says: "goes on after its first JSON value"},
	"20,000 brackets":           {body: `{"external_post_id":"x","a":` + deep + `}`, reason: "malformed_json", says: "depth"},
	"nothing but brackets":      {body: strings.Repeat("[", 20_000), reason: "malformed_json", says: "not JSON"},
	"array":                     {body: `[` + published("x") + `]`, reason: "not_an_object", says: "an array"},
	"null":                      {body: `null`, reason: "not_an_object", says: "null"},
	"text":                      {body: `"x"`, reason: "not_an_object", says: "the string"},
	"large number":              {body: `1e400000`, reason: "not_an_object", says: "1e400000"},
	"no post":                   {body: `{"status":"published"}`, reason: "missing_external_post_id", says: "external_post_id is missing"},
	"post in other letters":     {body: `{"EXTERNAL_POST_ID":"x"}`, reason: "missing_external_post_id", says: "external_post_id is missing"},
	"post null":                 {body: `{"external_post_id":null}`, reason: "invalid_external_post_id", says: "null"},
	"post true":                 {body: `{"external_post_id":true}`, reason: "invalid_external_post_id", says: "true"},
	"post array":                {body: `{"external_post_id":["x"]}`, reason: "invalid_external_post_id", says: "an array"},
	"post object":               {body: `{"external_post_id":{"id":"x"}}`, reason: "invalid_external_post_id", says: "an object"},
	"post empty":                {body: `{"external_post_id":""}`, reason: "invalid_external_post_id", says: "1 to 1024 bytes"},
	"post with U+0000":          {body: `{"external_post_id":"x\u0000"}`, reason: "invalid_external_post_id", says: "without NUL"},
	"post out of range":         {body: `{"external_post_id":1e400000}`, reason: "invalid_external_post_id", says: "out of range"},
	"post too long":             {body: published(strings.Repeat("x", 1025)), reason: "invalid_external_post_id", says: "1 to 1024 bytes"},
	"post of 700 KB":            {body: published(huge), reason: "invalid_external_post_id", says: "1 to 1024 bytes"},
	"last of two posts":         {body: `{"external_post_id":"x","external_post_id":7e5000}`, reason: "invalid_external_post_id", says: "out of range"},
	"platform too long":         {subject: "publish.webhook." + strings.Repeat("x", 129), body: published("x"), reason: "invalid_platform", says: "1 to 128 bytes"},
	"platform with a space":     {subject: "publish.webhook.a\u00a0b", body: published("x"), reason: "invalid_platform", says: "one subject token"},
	"platform with a control":   {subject: "publish.webhook.a\x01b", body: published("x"), reason: "invalid_platform", says: "one subject token"},
	"platform with a star":      {subject: "publish.webhook.a*b", body: published("x"), reason: "invalid_platform", says: "one subject token"},
	"platform is not UTF-8":     {subject: "publish.webhook.a\xffb", body: published("x"), reason: "invalid_platform", says: "one subject token"},
	"platform grows when lower": {subject: "publish.webhook." + strings.Repeat("Ⱥ", 64), body: published("x"), reason: "invalid_platform", says: "1 to 128 bytes"},

	// Those that are stored, safely.
	"status is a number": {post: "w1", body: `{"external_post_id":"w1","status":200}`, status: "processing", kept: `{"webhook_status":"200"}`},
	"status is null":     {post: "w2", body: `{"external_post_id":"w2","status":null,"complete":true}`, status: "success", kept: `{"webhook_status":"published","complete":true}`},
	"status is an object": {
		post: "w3", body: `{"external_post_id":"w3","status":{"a":"published"},"complete":true}`,
		status: "processing", kept: `{"webhook_status":null,"complete":true}`,
	},
	"wrong types": {
		post: "w4", body: `{"external_post_id":"w4","status":"published","media_url":7,"video_url":["u"],"videoId":{"a":1},"complete":"no"}`,
		status: "success", kept: `{"webhook_status":"published","media_url":7,"complete":"no"}`,
	},
	"U+0000": {
		post: "w5", body: `{"external_post_id":"w5","status":"published","a\u0000b":"c\u0000d","deep":{"\u0000":["\u0000"]}}`,
		status: "success", kept: "{\"webhook_status\":\"published\",\"a\ufffdb\":\"c\ufffdd\"}",
	},
	"lone surrogates": {
		post: "w6", body: `{"external_post_id":"w6","status":"published","\udc00a":"\ud800b\udfff"}`,
		status: "success", kept: "{\"webhook_status\":\"published\",\"\ufffda\":\"\ufffdb\ufffd\"}",
	},
	"invalid UTF-8": {
		post: "w7", body: "{\"external_post_id\":\"w7\",\"status\":\"published\",\"a\xff\":\"b\xc3\x28\xed\xa0\x80\"}",
		status: "success", kept: "{\"webhook_status\":\"published\",\"a\ufffd\":\"b\ufffd(\ufffd\ufffd\ufffd\"}",
	},
	"numbers out of range": {
		post: "w8", body: `{"external_post_id":"w8","status":"published","a":1e400000,"b":-1e400000,"c":1e-400000,"d":0e-20000,"e":` + strings.Repeat("9", 500) + `}`,
		status: "success", kept: `{"webhook_status":"published","a":"1e400000","b":"-1e400000","c":"1e-400000","d":"0e-20000","e":"` + strings.Repeat("9", 500) + `"}`,
	},
	"a field of 700 KB": {
		post: "w9", body: `{"external_post_id":"w9","status":"published","a":"` + huge + `"}`,
		status: "success", kept: `{"webhook_status":"published","a":"` + huge[:2048] + `"}`,
	},
	"a field's name of 700 KB": {post: "w10", body: `{"external_post_id":"w10","status":"published","` + huge + `":1}`, status: "success", kept: `{"webhook_status":"published"}`},
	"nested": {
		post: "w11", body: `{"external_post_id":"w11","status":"published","a":` + nested + `}`,
		status: "success", kept: `{"webhook_status":"published"}`,
	},
	"keys twice": {
		post: "w12", body: `{"external_post_id":"nobody","external_post_id":"w12","status":"failed","status":"published","a":1,"a":2}`,
		status: "success", kept: `{"webhook_status":"published","a":2}`,
	},
	"reserved keys": {
		post: "w13", body: `{"external_post_id":"w13","status":"published","reconciled":false,"reconciled_at":"never","reconciliation_reason":"webhook_timeout",
			"reconciliation_trigger":"api","webhook_received":false,"webhook_platform":"evil","webhook_status":"failed","webhook_timestamp":"2999-01-01T00:00:00Z",
			"probe_status":"failed","probe_timestamp":"2999-01-01T00:00:00Z","Reconciled":"theirs"}`,
		status: "success", kept: `{"webhook_status":"published","Reconciled":"theirs"}`,
	},
	"reserved keys, escaped": {
		post: "w14", body: `{"external_post_id":"w14","status":"in_review","\u0072econciled":true,"webhook\u005fstatus":"published"}`,
		status: "processing", kept: `{"webhook_status":"in_review"}`,
	},
	"reserved keys, no status": {
		post: "w15", body: `{"external_post_id":"w15","webhook_status":"published","reconciled":true}`,
		status: "processing", kept: `{"webhook_status":null}`,
	},
	"odd names": {
		post: "w16", body: `{"external_post_id":"w16","status":"published","":"empty","__proto__":1,"$set":2,"a.b":3,"'); DROP TABLE publish_logs; --":4}`,
		status: "success", kept: `{"webhook_status":"published","":"empty","__proto__":1,"$set":2,"a.b":3,"'); DROP TABLE publish_logs; --":4}`,
	},
	"odd post":          {post: `'); DROP TABLE publish_logs; --`, body: published(`'); DROP TABLE publish_logs; --`), status: "success", kept: `{"webhook_status":"published"}`},
	"post is a number":  {post: "1500", body: `{"external_post_id":1.5e3,"status":"published"}`, status: "success", kept: `{"webhook_status":"published"}`},
	"upper case":        {post: "w17", subject: "publish.webhook.InstaGRAM", body: published("w17"), status: "success", kept: `{"webhook_status":"published"}`},
	"foreign platform":  {post: "w18", platform: "вконтакте", subject: "publish.webhook.ВКонтакте", body: published("w18"), status: "success", kept: `{"webhook_status":"published"}`},
	"odd platform":      {post: "w19", platform: `a:"'\;-$`, subject: `publish.webhook.a:"'\;-$`, body: published("w19"), status: "success", kept: `{"webhook_status":"published"}`},
	"refused in JSON":   {post: "w20", body: `{"external_post_id":"w20","status":"failed","error":{"code":"\u0000"}}`, status: "failed", kept: "{\"webhook_status\":\"failed\",\"error\":\"{\\\"code\\\":\\\"\ufffd\\\"}\"}"},
	"refused, 700 KB":   {post: "w21", body: `{"external_post_id":"w21","status":"failed","error":"` + huge + `"}`, status: "failed", kept: `{"webhook_status":"failed","error":"` + huge[:2048] + `"}`},
	"white space about": {post: "w22", body: " \r\n\t" + published("w22") + "\n ", status: "success", kept: `{"webhook_status":"published"}`},
}

func (p poison) at() string {
	if p.subject == "" {
		return webhooks
	}
	return p.subject
}

func (p poison) of() string {
	if p.platform == "" {
		return "instagram"
	}
	return p.platform
}

// kept is what a row holds of a payload: its metadata without the service's own keys, but the status. These are
// looked at on the way.
func (w *world) kept(id uuid.UUID, platform string) map[string]any {
	w.Helper()
	metadata := decoded(w, one[string](w, `SELECT extra_metadata::text FROM publish_logs WHERE id = $1`, id))
	own := map[string]any{"webhook_received": true, "webhook_platform": platform}
	if w.status(id) != "processing" {
		own["reconciled"] = true
	}
	for name, want := range own {
		equal(w, name, metadata[name], want)
	}
	if reason := fmt.Sprint(metadata["reconciliation_reason"]); own["reconciled"] == true && reason != "webhook_confirmed" && reason != "webhook_rejected" {
		w.Errorf("reason %s", reason)
	}
	if at := fmt.Sprint(metadata["webhook_timestamp"], metadata["reconciled_at"], metadata["probe_timestamp"]); strings.Contains(at, "2999-01-01") || strings.Contains(at, "never") {
		w.Errorf("times %s", at)
	}
	for _, name := range []string{
		"webhook_received", "webhook_platform", "webhook_timestamp", "reconciled", "reconciled_at", "reconciliation_reason", "reconciliation_trigger",
	} {
		delete(metadata, name)
	}
	return metadata
}

func decoded(w *world, text string) (object map[string]any) {
	w.Helper()
	decoder := json.NewDecoder(strings.NewReader(text))
	decoder.UseNumber()
	if err := decoder.Decode(&object); err != nil {
		w.Fatalf("%v in %.200s", err, text)
	}
	return object
}

// diesOf waits for the letters of all that must die, and wants each to say why.
func (w *world) diesOf(kind streams.Kind, all map[string]poison) {
	w.Helper()
	want := make(map[string]string)
	for _, p := range all {
		if p.reason != "" {
			want[p.at()+" "+p.body] = p.reason
		}
	}
	becomes(w, "number of dead letters", len(want), w.dead) // reading them all takes a while
	equal(w, "dead letters", w.reasons(kind), want)
	letters := w.letters(kind)
	for name, p := range all {
		for _, letter := range letters {
			if letter.Header.Get(streams.HeaderDeadSubject) == p.at() && string(letter.Data) == p.body && !strings.Contains(letter.Header.Get(streams.HeaderDeadError), p.says) {
				w.Errorf("%s: %q does not say %q", name, letter.Header.Get(streams.HeaderDeadError), p.says)
			}
		}
	}
}

// splitNothing wants no batch to have needed more transactions than these. How many batches there are depends on
// how fast large messages come.
func (r *replica) splitNothing(transactions *atomic.Int64, each int) {
	r.w.Helper()
	r.w.until("no batch was split", func() bool { return int(transactions.Load()) <= each*len(r.logs.with("batch reconciled")) })
}

// All of the corpus, each message between good ones: no batch is split, and nothing comes again.
func TestPoisonBetweenGoodWebhooks(t *testing.T) {
	t.Parallel()
	w := setup(t)
	good := []uuid.UUID{w.insertLog("good", "processing", 0)}
	w.send(webhooks, published("good"))
	logs := make(map[string]uuid.UUID)
	for name, p := range badWebhooks {
		if p.post != "" {
			logs[name] = w.insertLog(p.post, "processing", 0)
			w.exec(`UPDATE publish_logs SET platform = $2 WHERE id = $1`, logs[name], p.of())
		}
		w.send(p.at(), p.body)
		good = append(good, w.insertLog("good "+name, "processing", 0))
		w.send(webhooks, published("good "+name))
	}
	var transactions atomic.Int64
	r := w.start(counting(&transactions))
	for _, id := range good {
		w.until("its neighbours are settled", func() bool { return w.status(id) == "success" })
	}
	w.diesOf(streams.KindWebhook, badWebhooks)
	w.settled(streams.ConsumerWebhooks)
	for name, p := range badWebhooks {
		if p.post == "" {
			continue
		}
		equal(t, name, w.status(logs[name]), p.status)
		equal(t, name, w.kept(logs[name], p.of()), decoded(w, p.kept))
	}
	r.splitNothing(&transactions, 1)
	equal(t, "redelivered", w.consumerInfo(streams.ConsumerWebhooks).NumRedelivered, 0)
	equal(t, "parked", w.parked(), 0)
}

// The same without their logs: what can be understood is parked, and found by the check of the log that comes late.
func TestPoisonIsParked(t *testing.T) {
	t.Parallel()
	w := setup(t)
	stored := make(map[string]poison)
	for name, p := range badWebhooks {
		if p.post != "" {
			stored[name] = p
			w.send(p.at(), p.body)
		}
	}
	w.start()
	w.settled(streams.ConsumerWebhooks)
	equal(t, "parked", w.parked(), len(stored))
	equal(t, "dead", w.dead(), 0)
	logs := make(map[string]uuid.UUID)
	for name, p := range stored {
		logs[name] = w.insertLog(p.post, "processing", 0)
		w.exec(`UPDATE publish_logs SET platform = $2 WHERE id = $1`, logs[name], p.of())
	}
	for _, id := range logs {
		w.send(streams.CheckSubject(id), "")
	}
	w.settled(streams.ConsumerChecks)
	for name, p := range stored {
		equal(t, name, w.status(logs[name]), p.status)
		want := decoded(w, p.kept)
		kept := w.kept(logs[name], p.of())
		if len(p.body) > 64<<10 { // what can't bear on the log was left out
			delete(want, "a")
			delete(kept, "a")
		}
		equal(t, name, kept, want)
	}
	equal(t, "parked", w.parked(), 0)
}

func TestPoisonBetweenGoodChecks(t *testing.T) {
	t.Parallel()
	w := setup(t)
	subject := streams.CheckSubject(uuid.New())
	bare := strings.ReplaceAll(uuid.NewString(), "-", "")
	all := map[string]poison{
		"no id":             {subject: "publish.check.not-an-id", reason: "invalid_log_id", says: "is not a UUID such as"},
		"no hyphens":        {subject: "publish.check." + bare, reason: "invalid_log_id", says: "is not a UUID such as"},
		"braces":            {subject: "publish.check.{" + uuid.NewString() + "}", reason: "invalid_log_id", says: "is not a UUID such as"},
		"URN":               {subject: "publish.check.urn:uuid:" + uuid.NewString(), reason: "invalid_log_id", says: "is not a UUID such as"},
		"id is not UTF-8":   {subject: "publish.check.\xff\x01", reason: "invalid_log_id", says: "is not a UUID such as"},
		"long id":           {subject: "publish.check." + strings.Repeat("a", 1000), reason: "invalid_log_id", says: "is not a UUID such as"},
		"no JSON":           {subject: subject, body: `soon`, reason: "malformed_json", says: "not JSON"},
		"two values":        {subject: subject, body: `{} {}`, reason: "malformed_json", says: "goes on"},
		"20,000 brackets":   {subject: subject, body: `{"timeout_minutes":` + deep + `}`, reason: "malformed_json", says: "depth"},
		"number":            {subject: subject, body: `10`, reason: "not_an_object", says: "the number"},
		"null":              {subject: subject, body: `null`, reason: "not_an_object", says: "null"},
		"unknown field":     {subject: subject, body: `{"timeout":1}`, reason: "unknown_field", says: "only timeout_minutes is"},
		"U+0000":            {subject: subject, body: `{"timeout_minutes\u0000":1}`, reason: "unknown_field", says: "only timeout_minutes is"},
		"reserved key":      {subject: subject, body: `{"timeout_minutes":0,"reconciled":true}`, reason: "unknown_field", says: `field "reconciled"`},
		"name of 700 KB":    {subject: subject, body: `{"` + huge + `":1}`, reason: "unknown_field", says: "xxx…"},
		"negative":          {subject: subject, body: `{"timeout_minutes":-1}`, reason: "invalid_value", says: "from 0 to"},
		"text":              {subject: subject, body: `{"timeout_minutes":"1"}`, reason: "invalid_value", says: "must be a number"},
		"null minutes":      {subject: subject, body: `{"timeout_minutes":null}`, reason: "invalid_value", says: "must be a number"},
		"out of range":      {subject: subject, body: `{"timeout_minutes":1e400000}`, reason: "invalid_value", says: "from 0 to"},
		"last of two":       {subject: subject, body: `{"timeout_minutes":0,"timeout_minutes":-1}`, reason: "invalid_value", says: "from 0 to"},
		"more than 10 year": {subject: subject, body: `{"timeout_minutes":5270401}`, reason: "invalid_value", says: "from 0 to"},
	}
	var good []uuid.UUID
	for name, p := range all {
		id := w.insertLog(name, "processing", 0)
		good = append(good, id)
		w.send(streams.CheckSubject(id), `{"timeout_minutes":0}`)
		w.send(p.at(), p.body)
	}
	// These are odd, and good.
	for body, token := range map[string]func(string) string{
		"":                              strings.ToUpper,
		" \n":                           strings.ToLower, //nolint:gocritic // white space is the case here
		`{"timeout_minutes":1e-400000}`: strings.ToLower,
		`{"timeout_minutes":9,"timeout_minutes":0}`: strings.ToLower,
	} {
		id := w.insertLog("odd "+body, "processing", 11*time.Minute)
		good = append(good, id)
		w.send("publish.check."+token(id.String()), body)
	}
	var transactions atomic.Int64
	r := w.start(counting(&transactions))
	for _, id := range good {
		w.until("its neighbours are settled", func() bool { return w.status(id) == "failed" })
	}
	w.diesOf(streams.KindCheck, all)
	w.settled(streams.ConsumerChecks)
	r.splitNothing(&transactions, 2) // the second one once the platform was asked
}

// Sweeps come one by one: a bad one holds up no good one.
func TestPoisonBetweenGoodSweeps(t *testing.T) {
	t.Parallel()
	w := setup(t)
	all := map[string]poison{
		"no JSON":         {body: `now`, reason: "malformed_json", says: "not JSON"},
		"two values":      {body: `{}{}`, reason: "malformed_json", says: "goes on"},
		"20,000 brackets": {body: deep, reason: "malformed_json", says: "depth"},
		"array":           {body: `[10]`, reason: "not_an_object", says: "an array"},
		"unknown field":   {body: `{"since":10}`, reason: "unknown_field", says: "only since_minutes is"},
		"reserved key":    {body: `{"reconciled":true}`, reason: "unknown_field", says: "only since_minutes is"},
		"zero":            {body: `{"since_minutes":0}`, reason: "invalid_value", says: "from 1 to 1440"},
		"more than a day": {body: `{"since_minutes":1441}`, reason: "invalid_value", says: "from 1 to 1440"},
		"half a minute":   {body: `{"since_minutes":1.5}`, reason: "invalid_value", says: "from 1 to 1440"},
		"out of range":    {body: `{"since_minutes":1e400000}`, reason: "invalid_value", says: "from 1 to 1440"},
		"text":            {body: `{"since_minutes":"10"}`, reason: "invalid_value", says: "must be a number"},
		"null":            {body: `{"since_minutes":null}`, reason: "invalid_value", says: "must be a number"},
	}
	for name, p := range all {
		p.subject = streams.SubjectSweep
		all[name] = p
		w.send(streams.SubjectSweep, p.body)
	}
	id := w.insertLog("silent", "processing", 11*time.Minute)
	w.send(streams.SubjectSweep, `{"since_minutes":5}`)
	w.start()
	w.until("the good sweep is done", func() bool { return w.status(id) == "failed" })
	w.diesOf(streams.KindSweep, all)
}
