package main

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"time"

	"publish-reconciler/consumer"
	"publish-reconciler/reconciler"
	"publish-reconciler/repo"
)

// settings are the flags of the service, each with its variable. All are text here: config() reads them,
// so that every fault is told at once.
type settings struct {
	natsSettings     `embed:""`
	databaseSettings `embed:""`
	httpSettings     `embed:""`
	webhookSettings  `embed:""`
	ruleSettings     `embed:""`
	probeSettings    `embed:""`
	holdSettings     `embed:""`
	eventSettings    `embed:""`
	ledgerSettings   `embed:""`
	logSettings      `embed:""`
}

type natsSettings struct {
	natsAccess     `embed:""`
	StreamReplicas string `name:"stream-replicas" env:"STREAM_REPLICAS" default:"1" values:"1,3" help:"NATS servers that keep each stream: 1 or 3."`
	ManageStreams  string `name:"manage-streams" env:"MANAGE_STREAMS" default:"true" values:"true,false" help:"Create and update streams and consumers; false: only verify them."`
}

type databaseSettings struct {
	DatabaseURL string `name:"database-url" env:"DATABASE_URL" help:"Postgres, such as postgres://user@host:5432/database."`
}

type httpSettings struct {
	HTTPAddr string `name:"http-addr" env:"HTTP_ADDR" default:"${http_addr}" help:"Where HTTP is served; beyond loopback only with an API token."`
	APIToken string `name:"api-token" env:"API_TOKEN" help:"What requests must bring as a bearer token."`
	Console  string `name:"console" env:"CONSOLE" default:"on" values:"on,readonly,off" help:"The operator's page at /: on, readonly or off."`
}

type ruleSettings struct {
	DefaultTimeout   string `name:"default-timeout" env:"DEFAULT_TIMEOUT" default:"10m" help:"Patience with a silent platform."`
	PlatformTimeouts string `name:"platform-timeouts" env:"PLATFORM_TIMEOUTS" help:"Patience with single platforms, such as instagram=15m;tiktok=30m."`
	PlatformRetries  string `name:"platform-retries" env:"PLATFORM_RETRIES" help:"Automatic retries before a log fails, such as instagram=1."`
	LateWebhooks     string `name:"late-webhooks" env:"LATE_WEBHOOKS" default:"accept" values:"accept,ignore" help:"Whether a confirmation after the deadline corrects the log: accept or ignore."`
	SweepInterval    string `name:"sweep-interval" env:"SWEEP_INTERVAL" default:"1m" help:"The most time between two sweeps: while they find nothing to do."`
	SweepMin         string `name:"sweep-min" env:"SWEEP_MIN" default:"5s" help:"The least time between two sweeps: while they find work."`
	PeakHours        string `name:"peak-hours" env:"PEAK_HOURS" help:"When sweeps keep to the least time, such as 18:00-23:00 Europe/Madrid."`
}

type probeSettings struct {
	ProbeTimeout string `name:"probe-timeout" env:"PROBE_TIMEOUT" default:"2s" help:"How long the answer to a probe may take."`
	ProbeRate    string `name:"probe-rate" env:"PROBE_RATE" default:"10/s" help:"Probes of one platform, such as 10/s or 30/m."`
}

type holdSettings struct {
	OutageHold    string `name:"outage-hold" env:"OUTAGE_HOLD" default:"off" values:"on,off" help:"Whether logs of a platform that confirms nothing at all are held instead of failed: on or off."`
	OutageHoldMax string `name:"outage-hold-max" env:"OUTAGE_HOLD_MAX" default:"2h" help:"How long such logs are held."`
}

type eventSettings struct {
	Events string `name:"events" env:"EVENTS" default:"on" values:"on,off" help:"Whether state changes are published on publish.event.>: on or off."`
}

type ledgerSettings struct {
	LedgerRetention string `name:"ledger-retention" env:"LEDGER_RETENTION" default:"off" help:"How old the logs' ledger events get before they are deleted, such as 90d; off: they stay."`
}

type logSettings struct {
	LogLevel  string `name:"log-level" env:"LOG_LEVEL" default:"info" values:"debug,info,warn,error" help:"debug, info, warn or error."`
	LogFormat string `name:"log-format" env:"LOG_FORMAT" values:"text,json" help:"text or json; unset: text on a terminal, else json."`
}

const (
	natsURLDefault  = "nats://127.0.0.1:4222"
	httpAddrDefault = "127.0.0.1:8080"
)

// config is what the settings say.
type config struct {
	nats            natsAccess
	streamReplicas  int
	manageStreams   bool
	databaseURL     string
	httpAddr        string
	apiToken        string
	console         consoleMode
	webhookSecrets  platformKeys
	webhookTokens   platformKeys
	policy          reconciler.Policy
	probe           consumer.ProbeConfig
	sweepInterval   time.Duration
	sweepMin        time.Duration
	peakHours       consumer.PeakHours
	events          bool
	ledgerRetention time.Duration // zero: none
	batchSize       int           // zero: the consumer's default
	gatherInterval  time.Duration // zero: the metrics' default
	log             logConfig
}

// consoleMode is what the operator's page may do.
type consoleMode int

const (
	consoleOff consoleMode = iota
	consoleReadOnly
	consoleOn
)

type logConfig struct {
	level  slog.Level
	format string // text, json, or empty: by the terminal
}

// Limits of durations. A timeout past a year is a mistake, and a sweep a second is the most that helps.
const (
	maxTimeout       = 365 * 24 * time.Hour
	minSweepInterval = time.Second
	maxSweepInterval = 24 * time.Hour
	maxRetries       = 1000
	// A probe holds up its batch, whose messages come again after the ack wait of 30s.
	minProbeTimeout = 10 * time.Millisecond
	maxProbeTimeout = 5 * time.Second
	minHold         = time.Minute
	// As long as the stream keeps webhooks: until then one may come that the ledger has told of.
	minRetention = 7 * 24 * time.Hour
	maxRetention = 100 * 365 * 24 * time.Hour
)

// faults gathers what is wrong with settings.
type faults struct{ all []error }

// add tells of a setting, its value and what is allowed.
func (f *faults) add(flag, variable, value, allowed string) {
	f.all = append(f.all, fmt.Errorf("--%s (%s) is %q: it must be %s", flag, variable, value, allowed))
}

func (f *faults) err() error {
	if len(f.all) == 0 {
		return nil
	}
	return usageError{errors.Join(f.all...)}
}

// config reads all settings. Its error tells of every fault; nothing in it is secret.
func (s settings) config() (config, error) {
	var f faults
	c := config{
		nats:           s.natsAccess,
		streamReplicas: oneOf(&f, "stream-replicas", "STREAM_REPLICAS", s.StreamReplicas, map[string]int{"1": 1, "3": 3}),
		manageStreams:  f.boolean("manage-streams", "MANAGE_STREAMS", s.ManageStreams),
		databaseURL:    s.databaseSettings.read(&f),
		httpAddr:       s.HTTPAddr,
		apiToken:       s.token(),
		console:        oneOf(&f, "console", "CONSOLE", s.Console, map[string]consoleMode{"on": consoleOn, "readonly": consoleReadOnly, "off": consoleOff}),
		policy: reconciler.Policy{
			DefaultTimeout: f.duration("default-timeout", "DEFAULT_TIMEOUT", s.DefaultTimeout, 0, maxTimeout),
			Timeouts:       f.timeouts("platform-timeouts", "PLATFORM_TIMEOUTS", s.PlatformTimeouts),
			Retries:        f.retries("platform-retries", "PLATFORM_RETRIES", s.PlatformRetries),
			IgnoreLate:     oneOf(&f, "late-webhooks", "LATE_WEBHOOKS", s.LateWebhooks, map[string]bool{"accept": false, "ignore": true}),
			HoldMax:        s.holdSettings.read(&f),
		},
		probe: consumer.ProbeConfig{
			Timeout: f.duration("probe-timeout", "PROBE_TIMEOUT", s.ProbeTimeout, minProbeTimeout, maxProbeTimeout),
			Rate:    f.rate("probe-rate", "PROBE_RATE", s.ProbeRate),
		},
		sweepInterval:   f.duration("sweep-interval", "SWEEP_INTERVAL", s.SweepInterval, minSweepInterval, maxSweepInterval),
		sweepMin:        f.duration("sweep-min", "SWEEP_MIN", s.SweepMin, minSweepInterval, maxSweepInterval),
		peakHours:       f.peakHours("peak-hours", "PEAK_HOURS", s.PeakHours),
		ledgerRetention: s.ledgerSettings.read(&f),
		events:          oneOf(&f, "events", "EVENTS", s.Events, map[string]bool{"on": true, "off": false}),
		log:             s.logSettings.read(&f),
	}
	c.webhookSecrets, c.webhookTokens = s.webhookSettings.read(&f)
	s.natsAccess.check(&f)
	s.httpSettings.check(&f)
	return c, f.err()
}

// token is without the line's end that a file or a secret store may have left on it.
func (s httpSettings) token() string { return strings.TrimSpace(s.APIToken) }

// check wants a token where more than this machine can reach the port.
func (s httpSettings) check(f *faults) {
	host, port, err := net.SplitHostPort(s.HTTPAddr)
	if n, portErr := strconv.Atoi(port); err != nil || portErr != nil || n < 0 || n > 65535 {
		f.add("http-addr", "HTTP_ADDR", s.HTTPAddr, "an address such as 127.0.0.1:8080")
		return
	}
	if !isLoopback(host) && s.token() == "" {
		f.add("http-addr", "HTTP_ADDR", s.HTTPAddr, "on loopback, such as 127.0.0.1:8080, as long as --api-token (API_TOKEN) is not set")
	}
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// read returns a URL that can be used. The value may hold a password and is not told.
func (s databaseSettings) read(f *faults) string {
	if s.DatabaseURL == "" {
		f.all = append(f.all, errors.New("--database-url (DATABASE_URL) is not set: it must be a URL such as postgres://user@host:5432/database"))
		return ""
	}
	if passwordBeyondHost(s.DatabaseURL) {
		f.all = append(f.all, errors.New("--database-url (DATABASE_URL) has an @ after its host: in a password, / ? # and @ must be percent-encoded"))
		return ""
	}
	store, err := repo.Open(repo.Config{URL: s.DatabaseURL})
	if err != nil {
		f.all = append(f.all, fmt.Errorf("--database-url (DATABASE_URL) can't be read, it must be a URL such as postgres://user@host:5432/database: %w", err))
		return ""
	}
	store.Close()
	return s.DatabaseURL
}

// read returns how long logs may be held; zero where none are.
func (s holdSettings) read(f *faults) time.Duration {
	longest := f.duration("outage-hold-max", "OUTAGE_HOLD_MAX", s.OutageHoldMax, minHold, maxTimeout)
	if !oneOf(f, "outage-hold", "OUTAGE_HOLD", s.OutageHold, map[string]bool{"on": true, "off": false}) {
		return 0
	}
	return longest
}

// read returns zero where events stay.
func (s ledgerSettings) read(f *faults) time.Duration {
	if s.LedgerRetention == "off" {
		return 0
	}
	const day = 24 * time.Hour
	days, isDays := strings.CutSuffix(s.LedgerRetention, "d")
	n, notDays := strconv.Atoi(days)
	retention, notDuration := time.ParseDuration(s.LedgerRetention)
	if isDays && notDays == nil && n <= int(maxRetention/day) {
		retention, notDuration = time.Duration(n)*day, nil
	}
	if notDuration != nil || retention < minRetention || retention > maxRetention {
		f.add("ledger-retention", "LEDGER_RETENTION", s.LedgerRetention, fmt.Sprintf("off, or a time such as 90d or 2160h, from %dd to %dd", minRetention/day, maxRetention/day))
		return 0
	}
	return retention
}

func (s logSettings) read(f *faults) logConfig {
	levels := map[string]slog.Level{"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError}
	return logConfig{
		level:  oneOf(f, "log-level", "LOG_LEVEL", s.LogLevel, levels),
		format: oneOf(f, "log-format", "LOG_FORMAT", s.LogFormat, map[string]string{"": "", "text": "text", "json": "json"}),
	}
}
