package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strconv"

	"publish-reconciler/cmd/publish-reconciler/simulate"
)

// report is a simulation's result with all that is known of the logs that are not as they must be.
type report struct {
	simulate.Result
	OK bool `json:"ok"`
	// Seconds is how long it was played, zero for a recheck, and PerSecond how many logs a second that made.
	Seconds   float64     `json:"seconds"`
	PerSecond float64     `json:"logs_per_second"`
	Offenders []logAnswer `json:"offenders"`
}

func newReport(result simulate.Result, ok bool, offenders []logAnswer) report {
	r := report{Result: result, OK: ok, Seconds: result.Took.Seconds(), Offenders: offenders}
	if r.Seconds > 0 {
		r.PerSecond = float64(result.Logs) / r.Seconds
	}
	return r
}

func (r report) print(w io.Writer, asJSON bool) error {
	if asJSON {
		return printJSON(w, r)
	}
	r.printTable(w)
	r.printOffences(w)
	return nil
}

func (r report) printTable(w io.Writer) {
	t := newTable(w)
	t.line("KIND", "EXPECTED", "LOGS", "FOUND", "OVERTAKEN", "WRONG")
	overtaken := 0
	for _, k := range r.Kinds {
		overtaken += k.Overtaken
		t.line(string(k.Kind), fmt.Sprintf("%s, %s", k.Outcome.Status, k.Outcome.Reason),
			strconv.Itoa(k.Expected), strconv.Itoa(k.Found), strconv.Itoa(k.Overtaken), strconv.Itoa(k.Wrong))
	}
	t.flush()
	fmt.Fprintln(w)
	t.line("IN ALL", "EXPECTED", "FOUND")
	for _, tally := range []struct {
		name string
		simulate.Tally
	}{
		{"state changes", r.StateChanges},
		{"outcome events", r.OutcomeEvents},
		{"logs with dead letters", r.DeadLetters},
		{"logs with parked webhooks", r.Parked},
		{"logs with messages left", r.Messages},
	} {
		t.line(tally.name, strconv.Itoa(tally.Expected), strconv.Itoa(tally.Found))
	}
	t.flush()
	if r.Unacknowledged {
		fmt.Fprintln(w, "\nNot all of its webhooks are acknowledged.")
	}
	if overtaken > 0 {
		fmt.Fprintf(w, "\n%d logs were overtaken by their deadline: JetStream had not stored their webhooks by then. A longer --timeout or a lower --rate gives it the time.\n", overtaken)
	}
	if r.OutcomeEvents.Expected > 0 && r.OutcomeEvents.Found == 0 {
		fmt.Fprintln(w, "\nThere is no outcome event at all: of a service with EVENTS=off expect none, by --events=off.")
	}
	took := ""
	if r.Seconds > 0 {
		took = fmt.Sprintf(" in %.1f s, %.0f a second", r.Seconds, r.PerSecond)
	}
	fmt.Fprintf(w, "\nsimulation %d, seed %d: %d logs%s, %d wrong\n", r.Run, r.Seed, r.Logs, took, r.Wrong)
}

func (r report) printOffences(w io.Writer) {
	for _, offence := range r.Offences {
		fmt.Fprintf(w, "\nlog %s (%s) must be %s, %s, by the changes %v:\n", offence.LogID, offence.Story.Kind,
			offence.Story.Outcome.Status, offence.Story.Outcome.Reason, offence.Story.Outcome.Changes)
		for _, fault := range offence.Faults {
			fmt.Fprintf(w, "- %s\n", visible(fault))
		}
		for _, log := range r.Offenders {
			if log.ID == offence.LogID {
				fmt.Fprintln(w)
				printLog(w, log)
			}
		}
	}
}

// printStory prints what would happen to each log.
func printStory(ctx context.Context, w io.Writer, plan simulate.Plan) error {
	story := simulate.NewStory(plan)
	buffered := bufio.NewWriter(w)
	encoder := json.NewEncoder(buffered)
	encoder.SetEscapeHTML(false)
	for i := range story.Len() {
		if ctx.Err() != nil {
			break
		}
		if err := encoder.Encode(story.Log(i)); err != nil {
			return err
		}
	}
	return buffered.Flush()
}
