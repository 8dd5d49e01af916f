package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
)

const ours = "publish_reconciler_"

// gathering has the gauges gathered while a test waits.
const gathering = "--gather-interval=50ms"

// scrape brings the metrics in the format that is asked for.
func (s served) scrape(accept string) (exposition []byte, header http.Header) {
	s.Helper()
	request, err := http.NewRequestWithContext(s.Context(), http.MethodGet, s.url+"/metrics", http.NoBody)
	if err != nil {
		s.Fatal(err)
	}
	request.Header.Set("Accept", accept)
	response, err := client.Do(request)
	if err != nil {
		s.Fatal(err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		s.Fatalf("scrape: %s", response.Status)
	}
	exposition, err = io.ReadAll(response.Body)
	if err != nil {
		s.Fatal(err)
	}
	return exposition, response.Header
}

// exposition is what a scrape brings, as text.
func (s served) exposition() string {
	s.Helper()
	text, _ := s.scrape("text/plain")
	return string(text)
}

// samples are the service's own, by name and labels, without the prefix.
func (s served) samples() map[string]float64 {
	s.Helper()
	samples := make(map[string]float64)
	for line := range strings.Lines(s.exposition()) {
		series, ours := strings.CutPrefix(line, ours)
		if !ours {
			continue
		}
		end := strings.LastIndexByte(series, ' ')
		value, err := strconv.ParseFloat(strings.TrimSpace(series[end:]), 64)
		if err != nil {
			s.Fatalf("%v in %q", err, line)
		}
		samples[series[:end]] = value
	}
	return samples
}

// measures waits until the samples are these. A negative value stands for a sample that is not there.
func (s served) measures(want map[string]float64) {
	s.Helper()
	differ := func() (lines []string) {
		got := s.samples()
		for _, series := range slices.Sorted(maps.Keys(want)) {
			value, there := got[series]
			if there != (want[series] >= 0) || there && value != want[series] {
				lines = append(lines, fmt.Sprintf("%s is %g (there: %v), want %g", series, value, there, want[series]))
			}
		}
		return lines
	}
	for deadline := time.Now().Add(soon); ; time.Sleep(20 * time.Millisecond) {
		lines := differ()
		if lines == nil {
			return
		}
		if time.Now().After(deadline) {
			s.Fatalf("not within %s:\n%s", soon, strings.Join(lines, "\n"))
		}
	}
}

// outcome is the series of what became of logs.
func outcome(platform, outcome, reason, trigger string) string {
	return fmt.Sprintf(`outcomes_total{outcome=%q,platform=%q,reason=%q,trigger=%q}`, outcome, platform, reason, trigger)
}

// Everything happens once, and is counted once, through all doors.
func TestMetrics(t *testing.T) {
	t.Parallel()
	l := newWorld(t).load()
	s := l.serve(gathering, "--platform-timeouts=tiktok=30m")
	s.swept()
	before := s.samples()

	// Before any webhook: silence says nothing while one may be unread.
	late := l.publish("late", "processing", `{}`, 0)
	l.send("publish.check."+late, `{"timeout_minutes":0}`, "check")
	s.measures(map[string]float64{outcome("instagram", "failed", "webhook_timeout", "check"): 1})
	l.publish("forgotten", "processing", `{}`, 2*time.Hour)
	if got := s.ask("POST", "/publishing/reconcile?since_minutes=60", ""); got.body["marked_failed"] != 1.0 {
		t.Fatal(got)
	}
	confirmed := l.publish("confirmed", "processing", `{}`, 0)
	for i := range 2 { // of which the second changes nothing
		if got := s.ask("POST", "/publishing/webhooks/instagram", `{"external_post_id":"confirmed","status":"published"}`); got.status != http.StatusAccepted {
			t.Fatal(got)
		}
		s.measures(map[string]float64{`webhooks_received_total{platform="instagram"}`: float64(i + 1)})
	}
	l.send("publish.webhook.instagram", `{"external_post_id":"late","status":"published"}`, "late")
	l.publish("unclear", "processing", `{}`, 0)
	l.send("publish.webhook.instagram", `{"external_post_id":"unclear","status":"in_review"}`, "unclear")
	l.send("publish.webhook.instagram", `{"external_post_id":"unknown","status":"published"}`, "unknown")
	l.send("publish.webhook.instagram", `{"external_post_id":`, "broken")
	s.measures(map[string]float64{outcome("instagram", "skipped", "webhook_unclear", "webhook"): 1})
	if got := s.ask("POST", "/publishing/logs/"+confirmed+"/override", `{"status":"failed","actor":"ana"}`); got.status != http.StatusOK {
		t.Fatal(got)
	}

	s.measures(map[string]float64{
		outcome("instagram", "success", "webhook_confirmed", "webhook"): 1,
		outcome("instagram", "unchanged", "already_final", "webhook"):   1,
		outcome("instagram", "failed", "webhook_timeout", "check"):      1,
		outcome("instagram", "success", "webhook_late", "webhook"):      1,
		outcome("instagram", "skipped", "webhook_unclear", "webhook"):   1,
		outcome("instagram", "parked", "", "webhook"):                   1,
		outcome("instagram", "failed", "webhook_timeout", "api"):        1,
		outcome("instagram", "failed", "overridden", "override"):        1,
		outcome("tiktok", "failed", "webhook_timeout", "check"):         0,
		`checked_total{trigger="webhook"}`:                              4,
		`checked_total{trigger="check"}`:                                1,
		`checked_total{trigger="api"}`:                                  1,
		`checked_total{trigger="override"}`:                             1,
		`late_corrections_total{platform="instagram"}`:                  1,
		`late_corrections_total{platform="tiktok"}`:                     0,
		`confirmation_seconds_count{platform="instagram"}`:              2,
		`decision_delay_seconds_count{trigger="webhook"}`:               5,
		`decision_delay_seconds_count{trigger="check"}`:                 1,
		`batch_messages_sum{consumer="webhooks"}`:                       6,
		`batch_messages_sum{consumer="checks"}`:                         1,
		`sweep_findings_total{outcome="failed"}`:                        1,
		`sweep_findings_total{outcome="success"}`:                       0,
		`relay_published_total`:                                         5,
		`consumer_pending_messages{consumer="webhooks"}`:                0,
		`consumer_in_hand_messages{consumer="webhooks"}`:                0,
		`consumer_redelivered_messages{consumer="webhooks"}`:            0,
		`open_logs{platform="instagram"}`:                               1,
		`due_logs{platform="instagram"}`:                                0,
		`open_logs{platform="tiktok"}`:                                  0,
		`oldest_open_log_age_seconds{platform="tiktok"}`:                0,
		`timeout_seconds{platform="tiktok"}`:                            1800,
		`timeout_seconds{platform="instagram"}`:                         (8760 * time.Hour).Seconds(),
		`parked_webhooks`:                                               1,
		`dead_letters`:                                                  1,
		`outbox_events`:                                                 0,
		`oldest_outbox_event_age_seconds`:                               0,
		`ready{part="postgres"}`:                                        1,
		`ready{part="nats"}`:                                            1,
		`ready{part="consumers"}`:                                       1,
		`pool_connections{state="max"}`:                                 10,
		`sweep_seconds_count{trigger="api"}`:                            1,
		`sweep_seconds_count{trigger="sweep"}`:                          before[`sweep_seconds_count{trigger="sweep"}`],
		`last_sweep_timestamp_seconds`:                                  before[`last_sweep_timestamp_seconds`],
		`checked_total{trigger="sweep"}`:                                before[`checked_total{trigger="sweep"}`],
		`db_statement_seconds_count{statement="reconcile_a_batch"}`:     -1, // it has names for its two round trips
		`confirmation_seconds_bucket{platform="instagram",le="+Inf"}`:   2,
		`confirmation_seconds_bucket{platform="instagram",le="86400"}`:  2,
		`decision_delay_seconds_bucket{trigger="webhook",le="30"}`:      5,
		`late_corrections_total{platform="other"}`:                      -1,
		`oldest_open_log_age_seconds{platform="other"}`:                 -1,
	})
	after := s.samples()
	for _, series := range []string{
		`db_statement_seconds_count{statement="lock"}`, `db_statement_seconds_count{statement="write"}`,
		`oldest_open_log_age_seconds{platform="instagram"}`, `oldest_parked_webhook_age_seconds`,
	} {
		if after[series] <= 0 || after[series] > 1000 {
			t.Errorf("%s is %g", series, after[series])
		}
	}
	for _, series := range []string{"last_sweep_timestamp_seconds", "gathered_timestamp_seconds"} {
		if age := time.Since(time.UnixMilli(int64(after[series] * 1000))); age < -time.Second || age > soon {
			t.Errorf("%s was %s ago", series, age)
		}
	}

	t.Run("promlint", func(t *testing.T) {
		problems, err := promlint.New(strings.NewReader(s.exposition())).Lint()
		if err != nil {
			t.Fatal(err)
		}
		for _, problem := range problems {
			if strings.HasPrefix(problem.Metric, ours) {
				t.Errorf("%s: %s", problem.Metric, problem.Text)
			}
		}
	})
	t.Run("README", func(t *testing.T) {
		got := make(map[string]string)
		for line := range strings.Lines(s.exposition()) {
			if fields := strings.Fields(line); fields[1] == "TYPE" && strings.HasPrefix(fields[2], ours) {
				got[strings.TrimPrefix(fields[2], ours)] = fields[3]
			}
		}
		readme, err := os.ReadFile("../../README.md")
		if err != nil {
			t.Fatal(err)
		}
		_, section, _ := strings.Cut(string(readme), "\n## Metrics\n")
		section, _, _ = strings.Cut(section, "\n## ")
		told := make(map[string]string)
		for _, row := range regexp.MustCompile("(?m)^\\| ((?:`[a-z_]+`(?:, )?)+) \\| ([a-z]+) \\|").FindAllStringSubmatch(section, -1) {
			for name := range strings.SplitSeq(row[1], ", ") {
				told[strings.Trim(name, "`")] = row[2]
			}
		}
		for name := range maps.Keys(got) {
			if told[name] != got[name] {
				t.Errorf("%s is a %s, and %q in the README", name, got[name], told[name])
			}
		}
		for name := range maps.Keys(told) {
			if got[name] == "" {
				t.Errorf("the README tells of %s, which is not there", name)
			}
		}
	})
	t.Run("native histograms", func(t *testing.T) {
		const protobuf = `application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited`
		exposition, header := s.scrape(protobuf)
		decoder := expfmt.NewDecoder(bytes.NewReader(exposition), expfmt.ResponseFormat(header))
		found := 0
		for {
			var family dto.MetricFamily
			err := decoder.Decode(&family)
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			if !strings.HasPrefix(family.GetName(), ours) || family.GetType() != dto.MetricType_HISTOGRAM {
				continue
			}
			found++
			for _, metric := range family.GetMetric() {
				if h := metric.GetHistogram(); len(h.GetPositiveSpan()) == 0 && h.GetZeroCount() == 0 || len(h.GetBucket()) == 0 {
					t.Errorf("%s: %v", family.GetName(), h)
				}
			}
		}
		if found != 5 {
			t.Errorf("%d histograms", found)
		}
	})
}

// Anybody may write any name of a platform into a message or a row.
func TestMetricsOfAFloodOfPlatforms(t *testing.T) {
	t.Parallel()
	l := newWorld(t).load()
	s := l.serve(gathering, "--platform-timeouts=tiktok=30m")
	const names = 100
	l.exec(`INSERT INTO publish_logs (platform, status, external_post_id) SELECT 'platform' || n, 'processing', 'post' FROM generate_series(1, $1::int) n`, names)
	l.exec(`INSERT INTO publish_logs (platform, status, external_post_id) VALUES (repeat('x', 1000), 'processing', 'post'), ('', 'processing', 'post'), ('tiktok', 'processing', 'post')`)
	for i := 1; i <= names; i++ {
		l.send(fmt.Sprint("publish.webhook.platform", i), `{"external_post_id":"post","status":"published"}`, fmt.Sprint(i))
	}
	l.send("publish.webhook.tiktok", `{"external_post_id":"post","status":"published"}`, "tiktok")
	s.measures(map[string]float64{
		outcome("tiktok", "success", "webhook_confirmed", "webhook"): 1,
		outcome("other", "success", "webhook_confirmed", "webhook"):  names - 20,
		`confirmation_seconds_count{platform="other"}`:               names - 20,
		`open_logs{platform="other"}`:                                2,
		`open_logs{platform="tiktok"}`:                               0,
	})
	labels := make(map[string]bool)
	for series := range s.samples() {
		if _, label, has := strings.Cut(series, `platform="`); has {
			label, _, _ = strings.Cut(label, `"`)
			labels[label] = true
		}
	}
	if len(labels) != 20+2 {
		t.Errorf("%d platforms: %v", len(labels), slices.Sorted(maps.Keys(labels)))
	}
}

// What Postgres refuses is done again in halves, by more transactions, of which some are rolled back.
func TestMetricsCountWhatIsCommitted(t *testing.T) {
	t.Parallel()
	l := newWorld(t).load()
	l.exec(`ALTER TABLE publish_logs ADD CONSTRAINT refuses CHECK (external_post_id <> 'post 3' OR status <> 'success')`)
	for i := range 8 {
		post := fmt.Sprint("post ", i)
		l.publish(post, "processing", `{}`, 0)
	}
	first := l.serve()
	first.stop() // it made the streams: now a whole batch can wait there
	first.exits(exitOK, soon)
	for i := range 8 {
		post := fmt.Sprint("post ", i)
		l.send("publish.webhook.instagram", fmt.Sprintf(`{"external_post_id":%q,"status":"published"}`, post), post)
	}
	s := l.serve(gathering)
	s.measures(map[string]float64{
		outcome("instagram", "success", "webhook_confirmed", "webhook"): 7,
		outcome("instagram", "refused", "webhook_confirmed", "webhook"): 1,
		`checked_total{trigger="webhook"}`:                              8,
		`confirmation_seconds_count{platform="instagram"}`:              7,
		`relay_published_total`:                                         7,
		`dead_letters`:                                                  1,
	})
	if got := s.samples()[`batch_messages_bucket{consumer="webhooks",le="5"}`]; got != 0 {
		t.Errorf("they came in %g small batches", got)
	}
}

// Of what is due it is told what stays open, and why: one log is unclear, and what silence would do to the other is
// refused by a constraint of the publishers', unless its platform is under a hold.
func TestMetricsOfWhatStaysOpen(t *testing.T) {
	t.Parallel()
	for hold, want := range map[string]map[string]float64{
		"off": {`held_logs{platform="instagram"}`: 0},
		"on":  {`held_logs{platform="instagram"}`: 1},
	} {
		t.Run("hold "+hold, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.exec(`ALTER TABLE publish_logs ADD CONSTRAINT refuses CHECK (status <> 'failed')`)
			w.exec(`INSERT INTO publish_platforms (platform, held_since, held_until) VALUES ('instagram', now(), now() + interval '1 hour')`)
			w.publish("silent", "processing", `{}`, 2*time.Hour)
			w.publish("unclear", "processing", `{"webhook_status":"in_review"}`, 2*time.Hour)
			w.exec(`INSERT INTO publish_logs (platform, status, external_post_id, extra_metadata)
			        VALUES ('tiktok', 'processing', 'another program''s', '{"webhook_status":"published","webhook_timestamp":"1970-01-01T00:00:00Z"}')`)
			s := w.serve(gathering, "--platform-timeouts=instagram=1h;tiktok=0s", "--events=off", "--outage-hold="+hold)
			s.measures(want)
			// Nobody has waited since 1970, and nobody empties the outbox.
			s.measures(map[string]float64{
				`due_logs{platform="instagram"}`: 2, `skipped_logs{platform="instagram"}`: 1,
				outcome("tiktok", "success", "webhook_confirmed", "sweep"): 1, `confirmation_seconds_count{platform="tiktok"}`: -1,
				`parked_webhooks`: 0, `outbox_events`: -1, `oldest_outbox_event_age_seconds`: -1,
			})
			reason := map[string]string{"off": outcome("instagram", "refused", "webhook_timeout", "sweep"), "on": outcome("instagram", "skipped", "platform_hold", "sweep")}[hold]
			eventually(t, "the silent log is looked at", func() bool {
				got := s.samples()
				// The other two are looked at in each sweep, or once.
				return got[reason] >= 1 && got[`checked_total{trigger="sweep"}`] >= got[reason]+got[outcome("instagram", "skipped", "webhook_unclear", "sweep")]+1
			})
		})
	}
}

// What each replica counts is its own; what the gauges tell is the same at all of them.
func TestMetricsOfTwoReplicas(t *testing.T) {
	t.Parallel()
	l := newWorld(t).load()
	replicas := []served{l.serve(gathering), l.serve(gathering)}
	const logs = 200
	l.exec(`INSERT INTO publish_logs (platform, status, external_post_id) SELECT 'instagram', 'processing', 'post ' || n FROM generate_series(1, $1::int) n`, logs)
	l.publish("open", "processing", `{}`, 0)
	for i := 1; i <= logs; i++ {
		for _, time := range []string{"once", "twice"} {
			l.send("publish.webhook.instagram", fmt.Sprintf(`{"external_post_id":"post %d","status":"published"}`, i), fmt.Sprint(i, time))
		}
	}
	sums := map[string]float64{
		outcome("instagram", "success", "webhook_confirmed", "webhook"): logs,
		outcome("instagram", "unchanged", "already_final", "webhook"):   logs,
		`relay_published_total`: logs,
	}
	eventually(t, "all is counted", func() bool {
		for series, want := range sums {
			if got := replicas[0].samples()[series] + replicas[1].samples()[series]; got > want {
				t.Fatalf("%s is %g, want %g", series, got, want)
			} else if got < want {
				return false
			}
		}
		return true
	})
	for _, replica := range replicas {
		replica.measures(map[string]float64{`open_logs{platform="instagram"}`: 1, `consumer_in_hand_messages{consumer="webhooks"}`: 0})
	}
}

// Gauges that can't be gathered any more are not shown for ever, and the others are.
func TestMetricsWhileNATSIsAway(t *testing.T) {
	t.Parallel()
	l := newWorld(t).load()
	s := l.serve(gathering)
	l.publish(uuid.NewString(), "processing", `{}`, 0)
	s.measures(map[string]float64{`dead_letters`: 0, `ready{part="nats"}`: 1, `open_logs{platform="instagram"}`: 1})
	l.nats.Halt()
	s.measures(map[string]float64{
		`dead_letters`: -1, `consumer_pending_messages{consumer="checks"}`: -1,
		`ready{part="nats"}`: 0, `ready{part="consumers"}`: 0, `ready{part="postgres"}`: 1,
		`open_logs{platform="instagram"}`: 1,
	})
	if err := l.nats.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.measures(map[string]float64{`dead_letters`: 0, `consumer_pending_messages{consumer="checks"}`: 0, `ready{part="nats"}`: 1})
}

func TestMetricsNeedNoToken(t *testing.T) {
	t.Parallel()
	s := newWorld(t).serve("--api-token=secret")
	contains(t, s.exposition(), ours+"build_info{")
	if got := s.ask("GET", "/publishing/status", ""); got.status != http.StatusUnauthorized {
		t.Error(got)
	}
}
