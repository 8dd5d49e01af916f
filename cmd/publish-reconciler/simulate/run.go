package simulate

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"

	"github.com/google/uuid"
)

// Run tells one playing of a story from every other: a number of twelve digits, which is part of the ids of
// its logs and posts.
type Run int64

const (
	minRun, maxRun = 100_000_000_000, 999_999_999_999
	// postMark stands in a story for the id of the log's post.
	postMark = "{post}"
)

// NewRun is a random one.
func NewRun() Run {
	return Run(minRun + rand.Int64N(maxRun-minRun+1)) //nolint:gosec // it has to be another one, not a secret
}

// ParseRun reads what a run is told by; false for what is none.
func ParseRun(text string) (Run, bool) {
	n, err := strconv.ParseInt(text, 10, 64)
	return Run(n), err == nil && n >= minRun && n <= maxRun
}

// logID is a UUID of version 8 (RFC 9562: of one's own making): the run's 40 bits, and the log's index.
func (r Run) logID(index int) (id uuid.UUID) {
	binary.BigEndian.PutUint64(id[:8], uint64(r)<<24) //nolint:gosec // see minRun
	id[6], id[8] = 0x80, 0x80
	binary.BigEndian.PutUint32(id[12:], uint32(index)) //nolint:gosec // see MaxLogs
	return id
}

// indexOf is which log of the run has this id; false for one that is not the run's.
func (r Run) indexOf(id uuid.UUID) (index int, own bool) {
	index = int(binary.BigEndian.Uint32(id[12:]))
	return index, r.logID(index) == id
}

// parseIndex is indexOf an id's text.
func (r Run) parseIndex(text string) (index int, own bool) {
	id, err := uuid.Parse(text)
	if err != nil {
		return 0, false
	}
	return r.indexOf(id)
}

// post is the platform's name for a log's post.
func (r Run) post(log Log) string {
	if log.Platform == numbered {
		return fmt.Sprintf("%d%07d", int64(r), log.Index)
	}
	return fmt.Sprintf("sim_%d_%d", int64(r), log.Index)
}

// fill puts the post's id where the story has a mark.
func (r Run) fill(text string, log Log) string {
	return strings.ReplaceAll(text, postMark, r.post(log))
}

// idPrefix is what the ids of all logs of the run begin with.
func (r Run) idPrefix() string {
	const sure = 10 // hexadecimal digits of the run, and the dash among them
	return r.logID(0).String()[:sure+1]
}
