package consumer

import "time"

// SweepReason says in one word why the next sweep comes when it comes.
type SweepReason string

// The reasons.
const (
	SweepFoundWork SweepReason = "found_work"
	SweepFoundNone SweepReason = "found_none"
	// SweepPeakHours: it is peak time, or will be before the delay that would follow otherwise has passed.
	SweepPeakHours SweepReason = "peak_hours"
	// SweepRestored: no tick was pending, as at the very first start, or one that was too far away.
	SweepRestored SweepReason = "restored"
)

// pace says how long the next sweep waits.
type pace struct {
	least, most time.Duration // a least above most counts as most
	peak        PeakHours
}

// next is the delay after a sweep that came after the previous one and ended now: half of it where the sweep
// found work, twice where it found none, from least to most. In peak hours it is least, and no delay lasts
// past the beginning of peak hours, unless they begin sooner than least. A previous delay of zero is not
// known, and counts as most.
func (p pace) next(previous time.Duration, foundWork bool, now time.Time) (time.Duration, SweepReason) {
	least := min(p.least, p.most)
	if p.peak.Contains(now) {
		return least, SweepPeakHours
	}
	previous = p.known(previous)
	delay, reason := min(2*previous, p.most), SweepFoundNone
	if foundWork {
		delay, reason = max(previous/2, least), SweepFoundWork
	}
	if until, ok := p.peak.beginWithin(now, delay); ok {
		return max(until, least), SweepPeakHours
	}
	return delay, reason
}

// known is a previous delay, or what takes its place: that of other settings may be out of their range.
func (p pace) known(previous time.Duration) time.Duration {
	if previous <= 0 {
		return p.most
	}
	return min(max(previous, min(p.least, p.most)), p.most)
}
