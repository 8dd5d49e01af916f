package pgtest

import (
	"context"
	"log/slog"
	"time"
)

// What the tests need beside the exported names.

var (
	StartIn           = start
	UsualPlaces       = usualPlaces
	DefaultRepository = defaultRepository
	HBA               = hbaText
)

func FindPrograms(places ...string) []string {
	var dirs []string
	for _, p := range findPrograms(places) {
		dirs = append(dirs, string(p))
	}
	return dirs
}

func Choose(ctx context.Context, dir string, places ...string) (string, error) {
	p, err := choosePrograms(ctx, layout{dir: dir}, nil, places, Config{Logger: slog.New(slog.DiscardHandler)})
	return string(p), err
}

func Unenterable(dir string, uid, gid int) string {
	return (&account{uid: uid, gid: gid}).unenterable(dir)
}

func Sweep(parent string) { sweep(parent) }

const TempPrefix = tempPrefix

type Child struct{ c *child }

func StartChild(dir, name string, args ...string) (Child, error) {
	c, err := startChild(layout{dir: dir}, nil, name, args...)
	return Child{c}, err
}

func (c Child) Stop(grace time.Duration) error {
	return c.c.stop(grace, slog.New(slog.DiscardHandler))
}

func (c Child) Ended() error {
	<-c.c.ended
	return c.c.err
}
