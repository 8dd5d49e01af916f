package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// examined is what doctor found, by check.
type examined struct {
	testing.TB
	found map[string][]finding
}

// doctor runs it in this world.
func (w *world) doctor(status int, more ...string) examined {
	w.Helper()
	p := begin(w.TB, append([]string{"doctor", "--json", "--database-url=" + w.database, "--nats-url=" + w.nats.URL()}, more...)...)
	return readFindings(p, status)
}

func readFindings(p *program, status int) examined {
	p.Helper()
	began := time.Now()
	p.exits(status, soon)
	if took := time.Since(began); took > 15*time.Second {
		p.Errorf("it took %s", took)
	}
	var answer doctorAnswer
	if err := json.Unmarshal([]byte(p.stdout.String()), &answer); err != nil {
		p.Fatalf("%v in %s%s", err, p.stdout.String(), p.stderr.String())
	}
	e := examined{p, map[string][]finding{}}
	wrong, warnings := 0, 0
	for _, f := range answer.Findings {
		e.found[f.Check] = append(e.found[f.Check], f)
		switch f.Level {
		case levelWrong:
			wrong++
		case levelWarning:
			warnings++
		}
	}
	if wrong != answer.Wrong || warnings != answer.Warnings || (wrong > 0) != (status == exitFailure) {
		p.Errorf("it counts %d and %d, and found %d wrong and %d warnings", answer.Wrong, answer.Warnings, wrong, warnings)
	}
	if wrong > 0 {
		p.says(fmt.Sprintf("publish-reconciler: wrong: %d, warnings: %d\n", wrong, warnings))
	}
	return e
}

// tells wants a check to have found exactly this.
func (e examined) tells(check string, l level, texts ...string) {
	e.Helper()
	if len(e.found[check]) != len(texts) {
		e.Errorf("%s: %v, want %d", check, e.found[check], len(texts))
		return
	}
	for i, f := range e.found[check] {
		if f.Level != l || !regexp.MustCompile("^"+texts[i]+"$").MatchString(f.Text) {
			e.Errorf("%s: %s %q, want %s %q", check, f.Level, f.Text, l, texts[i])
		}
	}
}

func (e examined) silent(checks ...string) {
	e.Helper()
	for _, check := range checks {
		if len(e.found[check]) > 0 {
			e.Errorf("%s: %v", check, e.found[check])
		}
	}
}

func TestDoctorFindsAllWell(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.serve("--ledger-retention=90d")
	s.swept()
	w.publish("ig_1", "processing", `{}`, time.Minute)
	e := w.doctor(exitOK)
	for check, text := range map[string]string{
		"nats":                `connected to nats://127\.0\.0\.1:\d+, version 2\.\d+\.\d+\S*, with JetStream and its message schedules`,
		"nats permissions":    `the user may do on all subjects what the service does`,
		"nats clock":          `its clock is \S+ (ahead of|behind) this machine's, to within \S+`,
		"nats storage":        `\d+\.\d MiB in files, far from every limit`,
		"streams":             `all streams and consumers are as the service needs them`,
		"sweep":               `(the next one: ` + aTime + ` .*|one has fired, .*)`,
		"prune":               `the next one: ` + aTime,
		"dead letters":        `none`,
		"service":             `1 replica answers`,
		"queue webhooks":      `nothing waits`,
		"queue checks":        `nothing waits`,
		"queue sweeper":       `nothing waits`,
		"postgres":            `it answers, and can be written to`,
		"postgres clock":      `its clock is \S+ (ahead of|behind) this machine's, to within \S+`,
		"schema":              `it is of the program's version`,
		"postgres privileges": `the role may do in all tables what the service does`,
		"indexes":             `all 8 are there and valid`,
		"due logs":            `(they are found by their index|publish_logs is so small that no index is needed to find them)`,
		"open logs":           `1, the oldest last updated ` + aTime + `; none for more than twice its timeout for want of a look`,
		"skipped logs":        `none that is long past its deadline`,
		"parked webhooks":     `0`,
		"outbox":              `0`,
	} {
		e.tells(check, levelOK, text)
		delete(e.found, check)
	}
	if len(e.found) > 0 {
		t.Errorf("and %v", e.found)
	}
	p := begin(t, "doctor", "--database-url="+w.database, "--nats-url="+w.nats.URL())
	p.exits(exitOK, soon)
	if !regexp.MustCompile(`^(ok  +[a-z]+( [a-z]+)?  +.+\n){22}$`).MatchString(p.stdout.String()) || p.stderr.String() != "" {
		t.Errorf("it prints\n%s%s", p.stdout.String(), p.stderr.String())
	}
}

// Postgres is away, and NATS has seen no service yet.
func TestDoctorWithoutAnything(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.database = "postgres://u:hush@127.0.0.1:1/x"
	e := w.doctor(exitFailure)
	e.tells("postgres", levelWrong, `postgres: failed to connect to .*: start it, or mend DATABASE_URL`)
	e.silent("schema", "indexes", "open logs")
	const mends = `: the service mends it when it starts, so restart one replica`
	e.tells("streams", levelWrong, `stream PUBLISH_WEBHOOKS is missing`+mends, `stream PUBLISH_CHECKS is missing`+mends, `stream PUBLISH_DEAD is missing`+mends,
		`stream PUBLISH_EVENTS is missing`+mends, `consumer webhooks of stream PUBLISH_WEBHOOKS is missing`+mends,
		`consumer checks of stream PUBLISH_CHECKS is missing`+mends, `consumer sweeper of stream PUBLISH_CHECKS is missing`+mends)
	e.tells("service", levelWrong, `nobody answers: start it with publish-reconciler run`)
	e.tells("nats clock", levelWrong, `its time can't be told: there is no stream to ask for it`)
	e.silent("sweep", "prune", "dead letters", "queue checks")
	e = w.doctor(exitFailure, "--manage-streams=false")
	if text := e.found["streams"][0].Text; !strings.HasSuffix(text, ": an administrator has to mend it, since MANAGE_STREAMS is false") {
		t.Error(text)
	}
	if strings.Contains(fmt.Sprint(e.found), "hush") {
		t.Errorf("a password: %v", e.found)
	}

	w.nats.Halt()
	e = w.doctor(exitFailure)
	e.tells("nats", levelWrong, `no NATS server lets us in at nats://.*: start it, or mend the address`)
	e.tells("postgres", levelWrong, `.*`)
}

func TestDoctorRefuses(t *testing.T) {
	t.Parallel()
	p := begin(t, "doctor", "--default-timeout=soon", "--nats-url=x")
	p.exits(exitUsage, soon)
	for _, want := range []string{"--default-timeout (DEFAULT_TIMEOUT) is", "--nats-url (NATS_URL) is", "--database-url (DATABASE_URL) is not set"} {
		p.says(want)
	}
}

func TestDoctorOfServers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for name, tt := range map[string]struct{ url, want string }{
		"old":          {oldNATS(t), `NATS server 2\.9\.10 is too old: publish-reconciler needs 2\.14 or later, for message schedules: upgrade it`},
		"no JetStream": {plainNATS(t, &server.Options{}), `JetStream is off on the NATS server .* \(nats-server -js\): .*`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := readFindings(begin(t, "doctor", "--json", "--database-url="+w.database, "--nats-url="+tt.url), exitFailure)
			e.tells("nats", levelWrong, tt.want)
			e.silent("streams", "queue checks")
			e.tells("schema", levelOK, `.*`)
		})
	}
}

// Whoever listens and says nothing is waited for in vain, but not for long.
func TestDoctorOfSilence(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.database = "postgres://u@" + listen(t).Addr().String() + "/x"
	e := readFindings(begin(t, "doctor", "--json", "--database-url="+w.database, "--nats-url=nats://"+listen(t).Addr().String()), exitFailure)
	e.tells("postgres", levelWrong, `ask postgres for its time: no answer from postgres within 3s: start it, or mend DATABASE_URL`)
	e.tells("nats", levelWrong, `no NATS server lets us in at nats://.*`)

	many := strings.TrimSuffix(strings.Repeat("nats://"+listen(t).Addr().String()+",", 20), ",")
	e = readFindings(begin(t, "doctor", "--json", "--database-url="+w.database, "--nats-url="+many), exitFailure)
	e.tells("nats", levelWrong, `no NATS server (answers in time|lets us in) at nats://.*`)
}

func TestDoctorIsStopped(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	asked := make(chan struct{}, 1)
	if _, err := w.client().Subscribe("$SRV.PING.publish-reconciler", func(*nats.Msg) { asked <- struct{}{} }); err != nil {
		t.Fatal(err)
	}
	p := begin(t, "doctor", "--database-url="+w.database, "--nats-url="+w.nats.URL())
	<-asked
	p.stop()
	p.exits(exitFailure, 3*time.Second)
	p.says("publish-reconciler: stopped before all was looked at\n")
}

func TestDoctorOfClocks(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		ahead time.Duration
		err   error
		level level
		text  string
	}{
		"right":  {0, nil, levelOK, `its clock is \S+ (ahead of|behind) this machine's, to within \S+`},
		"ahead":  {3 * time.Second, nil, levelWarning, `its clock is (3|2\.9)\S*s ahead of this machine's, to within \S+: have all machines keep time by NTP, or checks come early or late`},
		"behind": {-time.Hour, nil, levelWarning, `its clock is (59m59|1h0m0)\S* behind this machine's, .*`},
		"silent": {0, errors.New("hush"), levelWrong, `its time can't be told: hush`},
	} {
		var f findings
		f.lookAtClock(t.Context(), "clock", func(context.Context) (time.Time, error) { return time.Now().Add(tt.ahead), tt.err })
		if len(f) != 1 || f[0].Level != tt.level || !regexp.MustCompile("^"+tt.text+"$").MatchString(f[0].Text) {
			t.Errorf("%s: %v", name, f)
		}
	}
}
