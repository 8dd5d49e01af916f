package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"time"

	"publish-reconciler/cmd/publish-reconciler/simulate"
)

// report is a simulation's result with all that is known of the logs that are not as they must be.
type report struct {
	simulate.Result
	OK   bool        `json:"ok"`
	Logs []logAnswer `json:"offenders"`
}

func (r report) print(w io.Writer, asJSON bool) error {
	if asJSON {
		text, err := encode(r)
		if err != nil {
			return err
		}
		_, err = w.Write(visibleJSON(text))
		return err
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
	t.line("", "EXPECTED", "FOUND")
	for _, tally := range []struct {
		name string
		simulate.Tally
	}{
		{"state changes", r.StateChanges},
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
		fmt.Fprintf(w, "\n%d logs were overtaken by their deadline: the service had not read their webhooks by then. A longer --timeout or a lower --rate gives it the time.\n", overtaken)
	}
	took := ""
	if r.Took > 0 {
		took = fmt.Sprintf(" in %s, %.0f a second", r.Took.Round(10*time.Millisecond), float64(r.Result.Logs)/r.Took.Seconds())
	}
	fmt.Fprintf(w, "\nsimulation %d, seed %d: %d logs%s, %d wrong\n", r.Run, r.Seed, r.Result.Logs, took, r.Wrong)
}

func (r report) printOffences(w io.Writer) {
	for _, offence := range r.Offences {
		fmt.Fprintf(w, "\nlog %s (%s) must be %s, %s, by the changes %v:\n", offence.LogID, offence.Story.Kind,
			offence.Story.Outcome.Status, offence.Story.Outcome.Reason, offence.Story.Outcome.Changes)
		for _, fault := range offence.Faults {
			fmt.Fprintf(w, "- %s\n", visible(fault))
		}
		for _, log := range r.Logs {
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
