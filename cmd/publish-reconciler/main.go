// Command publish-reconciler closes publish logs: it consumes what the platforms say about posts, and
// fails what they stay silent about.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"
	_ "time/tzdata" // for peak hours, where the machine has no time zones: the container's image has none

	"github.com/alecthomas/kong"

	"publish-reconciler/cmd/publish-reconciler/bench"
	"publish-reconciler/reconciler"
)

// Exit statuses.
const (
	exitOK      = 0
	exitFailure = 1
	exitUsage   = 2 // a wrong flag, variable or argument; nothing was started
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// From the first signal on the next one has its usual effect, and ends the process at once.
	context.AfterFunc(ctx, stop)
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(200) // measured: a fifth less processor time under full load, for some 20 MiB
	}
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// commands are the program's, each a struct of its flags with a run method.
type commands struct {
	Dev         devCommand         `cmd:"" help:"Everything on one machine: an embedded NATS server, a private Postgres, and the service."`
	Run         runCommand         `cmd:"" help:"The service."`
	Migrate     migrateCommand     `cmd:"" help:"Bring the database schema up to date."`
	Simulate    simulateCommand    `cmd:"" help:"Publishers and platforms as they are, against the service; checks what became of every log."`
	Reconcile   reconcileCommand   `cmd:"" help:"Have the running service sweep now."`
	Override    overrideCommand    `cmd:"" help:"Set a log's status by hand."`
	Show        showCommand        `cmd:"" help:"One log, its history, and why it is in its state."`
	List        listCommand        `cmd:"" help:"Logs, newest first."`
	Status      statusCommand      `cmd:"" help:"Whether all is well, and what is open."`
	Doctor      doctorCommand      `cmd:"" help:"Looks at NATS, Postgres and the service, and says what is wrong and what to do."`
	Dead        deadCommands       `cmd:"" help:"Messages that could not be processed: list, show, replay, drop."`
	Prune       pruneCommand       `cmd:"" help:"Delete ledger events and parked webhooks that are old enough."`
	Bench       benchCommand       `cmd:"" help:"How fast it is on this machine, beside what the machine can do."`
	Monitoring  monitoringCommands `cmd:"" help:"Alerts and a dashboard for the metrics of this version: printed, to be loaded."`
	Contract    contractCommand    `cmd:"" help:"Every subject and message of this version, as an AsyncAPI document: printed, to be generated from."`
	Healthcheck healthcheckCommand `cmd:"" help:"Exit 0 when the service at --http-addr is ready, 1 when it is not."`
	Completion  completionCommand  `cmd:"" help:"What completes commands, flags and their values in bash, zsh or fish: printed, to be loaded."`
	Complete    completeCommand    `cmd:"" hidden:"" help:"What may come next on a command line; for the shells."`

	Version kong.VersionFlag `help:"Print the version, its commit and date, and exit."`
}

// output is where a command prints.
type output struct{ stdout, stderr io.Writer }

// command is what every command does. It returns nil when it was asked to stop and did.
type command interface {
	run(ctx context.Context, out output) error
}

// usageError is about what the user typed or set; it exits with 2.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

func run(ctx context.Context, args []string, stdout, stderr io.Writer) (status int) {
	var cli commands
	type exited int // kong's way out of --help and --version
	defer func() {
		switch r := recover().(type) {
		case nil:
		case exited:
			status = int(r)
		default:
			panic(r)
		}
	}()
	parser := newParser(&cli, kong.Writers(stdout, stderr), kong.Exit(func(code int) { panic(exited(code)) }))
	parsed, err := parser.Parse(args)
	if err == nil {
		emptyIsDefault(parsed)
		err = parsed.Selected().Target.Addr().Interface().(command).run(ctx, output{stdout, stderr})
	} else {
		if parseErr, ok := errors.AsType[*kong.ParseError](err); ok && len(args) == 0 {
			parser.Stdout = stderr
			_ = parseErr.Context.PrintUsage(false)
		}
		err = usageError{err}
	}
	var usage usageError
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &usage):
		fmt.Fprintf(stderr, "publish-reconciler: %s\n", err)
		return exitUsage
	default:
		fmt.Fprintf(stderr, "publish-reconciler: %s\n", err)
		return exitFailure
	}
}

func newParser(cli *commands, options ...kong.Option) *kong.Kong {
	return kong.Must(cli, append(options, // which panics where the struct tags are wrong
		kong.Name("publish-reconciler"),
		kong.Description("Closes every publish log: success once the platform confirmed, failed once its deadline passed."),
		tagVariables(),
	)...)
}

// tagVariables are what the struct tags name.
func tagVariables() kong.Vars {
	return kong.Vars{
		"version":     built().String(),
		"nats_url":    natsURLDefault,
		"http_addr":   httpAddrDefault,
		"list_limit":  strconv.Itoa(reconciler.DefaultListed),
		"dead_limit":  strconv.Itoa(defaultLetters),
		"bench_lines": strings.Join(bench.Lines(), ", "),
	}
}

// emptyIsDefault treats a variable that is set but empty, as compose files pass on what is not set, like
// one that is not set.
func emptyIsDefault(parsed *kong.Context) {
	for _, flag := range parsed.Flags() {
		if flag.HasDefault && flag.Target.IsValid() && flag.Target.String() == "" {
			flag.Target.SetString(flag.Default)
		}
	}
}
