package main

import (
	"log/slog"
	"net"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// setting is one row of section 7's table.
type setting struct {
	flag, variable string
	read           func(config) any
	fallback       any            // without flag and variable
	good           map[string]any // what values stand for
	bad            []string
	allowed        string // as the message says it
}

const aDatabase = "postgres://someone@127.0.0.1:1/somewhere"

func allSettings(t *testing.T) []setting {
	t.Helper()
	return append(natsFileSettings(t), []setting{
		{
			"nats-url", "NATS_URL", func(c config) any { return c.nats.NATSURL }, "nats://127.0.0.1:4222",
			map[string]any{"nats://a:1, tls://b:2": "nats://a:1, tls://b:2", "wss://u@c": "wss://u@c"},
			[]string{"localhost:4222", "http://a:1", "nats://"},
			"",
		},
		{
			"database-url", "DATABASE_URL", func(c config) any { return c.databaseURL }, aDatabase,
			map[string]any{"host=/run dbname=x": "host=/run dbname=x"},
			nil, "",
		},
		{
			"http-addr", "HTTP_ADDR", func(c config) any { return c.httpAddr }, "127.0.0.1:8080",
			map[string]any{"127.0.0.1:0": "127.0.0.1:0", "[::1]:65535": "[::1]:65535"},
			[]string{"8080", "127.0.0.1", "127.0.0.1:", "127.0.0.1:http", "127.0.0.1:65536", "127.0.0.1:-1", "::1:80"},
			"an address such as 127.0.0.1:8080",
		},
		{"api-token", "API_TOKEN", func(c config) any { return c.apiToken }, "", map[string]any{"hush": "hush", " hush\n": "hush"}, nil, ""}, //nolint:gocritic // white space is the case here
		{
			"webhook-secrets", "WEBHOOK_SECRETS", func(c config) any { return c.webhookSecrets },
			platformKeys{},
			map[string]any{" TikTok = 0123456789%3B%2cdef== ,ABCDEF+0123456789; instagram=" + strings.Repeat("x", 199) + ";": platformKeys{
				"tiktok": {[]byte("0123456789;,def=="), []byte("ABCDEF+0123456789")}, "instagram": {[]byte(strings.Repeat("x", 199))},
			}},
			nil, "", // TestWebhookSettings
		},
		{
			"webhook-verify-tokens", "WEBHOOK_VERIFY_TOKENS", func(c config) any { return c.webhookTokens },
			platformKeys{},
			map[string]any{"instagram=meatyham": platformKeys{"instagram": {[]byte("meatyham")}}},
			nil, "",
		},
		{
			"console", "CONSOLE", func(c config) any { return c.console }, consoleOn,
			map[string]any{"readonly": consoleReadOnly, "off": consoleOff},
			[]string{"true", "On", "read-only"},
			"one of off, on, readonly",
		},
		{
			"default-timeout", "DEFAULT_TIMEOUT", func(c config) any { return c.policy.DefaultTimeout }, 10 * time.Minute,
			map[string]any{"0s": time.Duration(0), "1h30m": 90 * time.Minute, "8760h": maxTimeout},
			[]string{"10", "-1s", "8761h", "soon"},
			"a duration such as 10m, from 0s to 8760h",
		},
		{
			"platform-timeouts", "PLATFORM_TIMEOUTS", func(c config) any { return c.policy.Timeouts },
			map[string]time.Duration{},
			map[string]any{"instagram=15m; TikTok = 0s;": map[string]time.Duration{"instagram": 15 * time.Minute, "tiktok": 0}},
			[]string{"instagram", "instagram=15", "=15m", "a=1m;A=2m", "a=1m,b=2m"},
			"platform=value pairs, each platform once, such as instagram=15m;tiktok=30m, each from 0s to 8760h",
		},
		{
			"platform-retries", "PLATFORM_RETRIES", func(c config) any { return c.policy.Retries },
			map[string]int{},
			map[string]any{"instagram=1;tiktok=1000": map[string]int{"instagram": 1, "tiktok": 1000}, "a=0": map[string]int{"a": 0}},
			[]string{"1", "a=-1", "a=1001", "a=1.5", "a=1;a=1"},
			"platform=value pairs, each platform once, such as instagram=1;tiktok=2, each from 0 to 1000",
		},
		{
			"late-webhooks", "LATE_WEBHOOKS", func(c config) any { return c.policy.IgnoreLate }, false,
			map[string]any{"accept": false, "ignore": true},
			[]string{"yes", "Accept"},
			"one of accept, ignore",
		},
		{
			"probe-timeout", "PROBE_TIMEOUT", func(c config) any { return c.probe.Timeout }, 2 * time.Second,
			map[string]any{"10ms": 10 * time.Millisecond, "5s": 5 * time.Second},
			[]string{"0s", "6s", "2"},
			"a duration such as 10m, from 10ms to 5s",
		},
		{
			"probe-rate", "PROBE_RATE", func(c config) any { return c.probe.Rate }, 10.0,
			map[string]any{"30/m": 0.5, "1/h": 1.0 / 3600, "10000/s": 10_000.0, "5": 5.0, "0.25/s": 0.25},
			[]string{"10/", "0/s", "-1/s", "10001/s", "0.9/h", "10/d", "NaN/s", "/s", "ten/s"},
			"a rate such as 10/s, 30/m or 100/h, from 1/h to 10000/s",
		},
		{
			"outage-hold", "OUTAGE_HOLD", func(c config) any { return c.policy.HoldMax }, time.Duration(0),
			map[string]any{"on": 2 * time.Hour, "off": time.Duration(0)},
			[]string{"true", "2h"},
			"one of off, on",
		},
		{
			"outage-hold-max", "OUTAGE_HOLD_MAX", func(c config) any { return c.policy.HoldMax }, time.Duration(0),
			map[string]any{"1m": time.Duration(0), "8760h": time.Duration(0)}, // they are not held
			[]string{"59s", "8761h", "2"},
			"a duration such as 10m, from 1m to 8760h",
		},
		{
			"ledger-retention", "LEDGER_RETENTION", func(c config) any { return c.ledgerRetention }, time.Duration(0),
			map[string]any{"off": time.Duration(0), "90d": 90 * 24 * time.Hour, "168h": 7 * 24 * time.Hour, "36500d": 36500 * 24 * time.Hour},
			[]string{"0", "167h", "6d", "0d", "-1d", "36501d", "90", "1.5d", "on", "99999999999999999999d"},
			"off, or a time such as 90d or 2160h, from 7d to 36500d",
		},
		{
			"sweep-interval", "SWEEP_INTERVAL", func(c config) any { return c.sweepInterval }, time.Minute,
			map[string]any{"1s": time.Second, "24h": 24 * time.Hour},
			[]string{"999ms", "25h", "1"},
			"a duration such as 10m, from 1s to 24h",
		},
		{
			"sweep-min", "SWEEP_MIN", func(c config) any { return c.sweepMin }, 5 * time.Second,
			map[string]any{"1s": time.Second, "24h": 24 * time.Hour},
			[]string{"999ms", "25h", "1"},
			"a duration such as 10m, from 1s to 24h",
		},
		{
			"peak-hours", "PEAK_HOURS", func(c config) any { return c.peakHours.String() }, "",
			map[string]any{"Mon-Fri 18:00-23:00  Europe/Madrid; 10:00-24:00": "Mon-Fri 18:00-23:00 Europe/Madrid;10:00-24:00"},
			[]string{"18:00-23:00 Europe/Madird"},
			"windows such as 18:00-23:00 Europe/Madrid or Mon-Fri 18:00-23:00, separated by semicolons; " +
				`zone "Europe/Madird" is not known: it must be one such as Europe/Madrid`,
		},
		{
			"stream-replicas", "STREAM_REPLICAS", func(c config) any { return c.streamReplicas }, 1,
			map[string]any{"1": 1, "3": 3},
			[]string{"0", "2", "5", "three"},
			"one of 1, 3",
		},
		{
			"manage-streams", "MANAGE_STREAMS", func(c config) any { return c.manageStreams }, true,
			map[string]any{"false": false, "true": true},
			[]string{"no", "2"},
			"true or false",
		},
		{
			"events", "EVENTS", func(c config) any { return c.events }, true,
			map[string]any{"on": true, "off": false},
			[]string{"true"},
			"one of off, on",
		},
		{
			"log-level", "LOG_LEVEL", func(c config) any { return c.log.level }, slog.LevelInfo,
			map[string]any{"debug": slog.LevelDebug, "warn": slog.LevelWarn, "error": slog.LevelError},
			[]string{"INFO", "trace"},
			"one of debug, error, info, warn",
		},
		{
			"log-format", "LOG_FORMAT", func(c config) any { return c.log.format }, "",
			map[string]any{"text": "text", "json": "json"},
			[]string{"xml"},
			"one of json, text",
		},
	}...)
}

func TestSettings(t *testing.T) {
	for _, s := range allSettings(t) {
		t.Run(s.flag, func(t *testing.T) {
			t.Setenv("DATABASE_URL", aDatabase)
			read := func(want any, args ...string) {
				t.Helper()
				cli := parse(t, append([]string{"run"}, args...)...)
				cfg, err := cli.Run.config()
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(want, s.read(cfg)); diff != "" {
					t.Errorf("%s: %s", args, diff)
				}
			}
			read(s.fallback)
			if s.variable != "DATABASE_URL" {
				t.Setenv(s.variable, "")
				read(s.fallback)
			}
			for value, want := range s.good {
				t.Setenv(s.variable, "nonsense")
				if len(s.bad) > 0 {
					t.Setenv(s.variable, s.bad[0])
				}
				read(want, "--"+s.flag, value) // the flag wins
				t.Setenv(s.variable, value)
				read(want)
			}
		})
	}
}

func TestOutageHoldMax(t *testing.T) {
	t.Parallel()
	cli := parse(t, "run", "--database-url", aDatabase, "--outage-hold=on", "--outage-hold-max=30m")
	cfg, err := cli.Run.config()
	if err != nil || cfg.policy.HoldMax != 30*time.Minute {
		t.Errorf("held for %s, %v", cfg.policy.HoldMax, err)
	}
}

func TestEmptyVariables(t *testing.T) { //nolint:paralleltest // it sets variables
	for _, s := range allSettings(t) {
		t.Setenv(s.variable, "")
	}
	p := begin(t, "run")
	p.exits(exitUsage, soon)
	const want = "publish-reconciler: --database-url (DATABASE_URL) is not set: it must be a URL such as postgres://user@host:5432/database\n"
	if p.stderr.String() != want {
		t.Errorf("it says %s", p.stderr.String())
	}
}

func TestEverySettingIsTested(t *testing.T) {
	t.Parallel()
	var tested []string
	for _, s := range allSettings(t) {
		tested = append(tested, s.variable)
	}
	all := variables(reflect.TypeFor[settings]())
	slices.Sort(tested)
	slices.Sort(all)
	if diff := cmp.Diff(all, tested); diff != "" {
		t.Error(diff)
	}
}

func TestBadSettings(t *testing.T) {
	t.Parallel()
	for _, s := range allSettings(t) {
		for _, value := range s.bad {
			t.Run(s.flag+" "+value, func(t *testing.T) {
				t.Parallel()
				p := begin(t, "run", "--database-url", aDatabase, "--"+s.flag+"="+value)
				p.exits(exitUsage, soon)
				told, allowed := value, s.allowed
				if s.flag == "nats-url" {
					told, allowed = redactNATS(value), "URLs such as nats://host:4222, separated by commas"
				}
				want := `publish-reconciler: --` + s.flag + ` (` + s.variable + `) is "` + told + `": it must be ` + allowed + "\n"
				if p.stderr.String() != want || p.stdout.String() != "" {
					t.Errorf("it says\n%swant\n%s", p.stderr.String(), want)
				}
			})
		}
	}
}

func TestAllFaultsAtOnce(t *testing.T) {
	t.Setenv("LOG_LEVEL", "loud")
	listener := listen(t)
	addr := listener.Addr().String()
	_ = listener.Close()
	args := []string{"run", "--http-addr", addr}
	for _, s := range allSettings(t) {
		if len(s.bad) > 0 && s.flag != "http-addr" && s.flag != "log-level" {
			args = append(args, "--"+s.flag+"="+s.bad[0])
		}
	}
	p := begin(t, args...)
	p.exits(exitUsage, soon)
	for _, s := range allSettings(t) {
		if (len(s.bad) > 0 || s.flag == "database-url") && s.flag != "http-addr" {
			p.says("--" + s.flag + " (" + s.variable + ") is ")
		}
	}
	if _, err := new(net.Dialer).DialContext(t.Context(), "tcp", addr); err == nil {
		t.Error("it listens all the same")
	}
	if strings.Contains(p.stderr.String(), `"level"`) {
		t.Error("it logged")
	}
}

func TestLoopbackOrToken(t *testing.T) {
	t.Parallel()
	for addr, loopback := range map[string]bool{
		"127.0.0.1:80": true, "127.8.9.1:80": true, "localhost:80": true, "[::1]:80": true, "[::ffff:127.0.0.1]:80": true,
		"0.0.0.0:80": false, ":80": false, "[::]:80": false, "db.example:80": false, "192.168.1.7:80": false, "localhost.evil.example:80": false,
	} {
		t.Run(addr, func(t *testing.T) {
			t.Parallel()
			var alone, guarded faults
			httpSettings{HTTPAddr: addr, APIToken: " \n"}.check(&alone) // as good as none
			httpSettings{HTTPAddr: addr, APIToken: "hush"}.check(&guarded)
			if (alone.err() == nil) != loopback || guarded.err() != nil {
				t.Errorf("without a token: %v; with one: %v", alone.err(), guarded.err())
			}
			if err := alone.err(); err != nil {
				contains(t, err.Error(), `--http-addr (HTTP_ADDR) is "`+addr+`": it must be on loopback, such as 127.0.0.1:8080, as long as --api-token (API_TOKEN) is not set`)
			}
		})
	}
}

func TestUsage(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		args           []string
		status         int
		stdout, stderr string
	}{
		"alone":            {nil, exitUsage, "", "Usage: publish-reconciler <command>"},
		"unknown command":  {[]string{"rum"}, exitUsage, "", "publish-reconciler: unexpected argument rum"},
		"unknown flag":     {[]string{"run", "--nope"}, exitUsage, "", "publish-reconciler: unknown flag --nope"},
		"unknown argument": {[]string{"run", "now"}, exitUsage, "", "publish-reconciler: unexpected argument now"},
		"flag of another":  {[]string{"run", "--data-dir=x"}, exitUsage, "", "unknown flag --data-dir"},
		"no value":         {[]string{"run", "--log-level"}, exitUsage, "", "--log-level"},
		"no database":      {[]string{"migrate"}, exitUsage, "", "--database-url (DATABASE_URL) is not set"},
		"help":             {[]string{"--help"}, exitOK, "Usage: publish-reconciler <command>", ""},
		"help of run":      {[]string{"run", "--help"}, exitOK, "$PLATFORM_TIMEOUTS", ""},
		"version":          {[]string{"--version"}, exitOK, built().String() + "\n", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := begin(t, tt.args...)
			p.exits(tt.status, soon)
			contains(t, p.stdout.String(), tt.stdout)
			p.says(tt.stderr)
			if (tt.stdout == "" && p.stdout.String() != "") || (tt.stderr == "" && p.stderr.String() != "") {
				t.Errorf("stdout is %q, stderr is %q", p.stdout.String(), p.stderr.String())
			}
		})
	}
}

// No part of a password or token of these may be told, in whatever way the URL is wrong.
func TestSecretsInFaults(t *testing.T) {
	t.Parallel()
	for name, args := range map[string][]string{
		"database: port":             {"--database-url", "postgres://u:hush@h:bad/db"},
		"database: slash":            {"--database-url", "postgres://u:hu/sh-hush@h/db"},
		"database: digits and slash": {"--database-url", "postgres://u:12/hush@h/db"},
		"database: question mark":    {"--database-url", "postgres://u:12?hush@h/db"},
		"database: hash":             {"--database-url", "postgres://u:hush#hush@h/db"},
		"database: in query":         {"--database-url", "postgres://h/db?password=hush&sslmode=bogus"},
		"database: keywords":         {"--database-url", "host=h password=hush sslmode=bogus"},
		"nats: scheme":               {"--nats-url", "http://u:hush@h"},
		"nats: token":                {"--nats-url", "http://hush@h"},
		"nats: no scheme":            {"--nats-url", "user:hush@h:4222"},
		"nats: no slashes":           {"--nats-url", "nats:user:hush@h:4222"},
		"nats: digits and slash":     {"--nats-url", "nats://u:12/hush@h"},
		"nats: hash":                 {"--nats-url", "nats://u:12#hush@h"},
		"nats: question mark":        {"--nats-url", "nats://u:12?hush@h"},
		"nats: comma":                {"--nats-url", "nats://u:1,hush@h"},
		"nats: space":                {"--nats-url", "nats://u: hush@h"},
		"token":                      {"--api-token=hush", "--http-addr=x"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := begin(t, append([]string{"run", "--database-url=" + aDatabase, "--log-level=wrong"}, args...)...)
			p.exits(exitUsage, soon)
			if n := strings.Count(p.stderr.String(), "\n"); n < 2 {
				t.Error("there is a fault that it does not tell")
			}
			if strings.Contains(p.stderr.String()+p.stdout.String(), "hush") {
				t.Errorf("it tells: %s", p.stderr.String())
			}
		})
	}
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	return listener
}
