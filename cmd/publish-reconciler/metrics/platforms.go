package metrics

import (
	"maps"
	"slices"
	"sync"
	"unicode/utf8"

	"publish-reconciler/streams"
)

const (
	// maxSeen is how many platforms without a setting of their own have a label of their own: the first that are seen.
	maxSeen = 20
	// otherPlatform is the label of all others.
	otherPlatform = "other"
)

// platforms bounds the label of the platform: anybody may write any name into a message or a row.
type platforms struct {
	mu    sync.RWMutex
	known map[string]bool
	room  int
}

func newPlatforms(own []string) *platforms {
	p := &platforms{known: make(map[string]bool, len(own)+maxSeen), room: maxSeen}
	for _, name := range own {
		p.known[name] = true
	}
	return p
}

// label is the platform's name, or "other".
func (p *platforms) label(name string) string {
	p.mu.RLock()
	known, full := p.known[name], p.room == 0
	p.mu.RUnlock()
	switch {
	case known:
		return name
	case full || name == "" || len(name) > streams.MaxPlatformBytes || !utf8.ValidString(name):
		return otherPlatform
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.known[name] {
		if p.room == 0 {
			return otherPlatform
		}
		p.known[name] = true
		p.room--
	}
	return name
}

// knownLabel is the platform's name where it has a label already, or "other".
func (p *platforms) knownLabel(name string) string {
	p.mu.RLock()
	defer p.mu.RUnlock()
	if p.known[name] {
		return name
	}
	return otherPlatform
}

// names are the labels so far, without "other".
func (p *platforms) names() []string {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return slices.Collect(maps.Keys(p.known))
}
