package streams

import "context"

// What the tests look at and nobody else needs.
var (
	CheckVersion = checkVersion
	TakesIn      = takesIn
	Body         = Check.body
	ReadLetter   = readLetter
)

// Store is a replay that is cut off before the end of its letter.
func (r *Replayer) Store(ctx context.Context, sequence uint64) (before bool, err error) {
	p := &replay{sequence: sequence, begun: now()}
	if err := r.prepare(ctx, p); err != nil {
		return false, err
	}
	r.store(ctx, []*replay{p})
	return p.before, p.err
}

// Begin is a replay that hangs before its original is stored. It goes on when the function is called.
func (r *Replayer) Begin(ctx context.Context, sequence uint64) (goOn func() (before bool, err error), err error) {
	p := &replay{sequence: sequence, begun: now()}
	if err := r.prepare(ctx, p); err != nil {
		return nil, err
	}
	return func() (bool, error) {
		r.store(ctx, []*replay{p})
		return p.before, p.err
	}, nil
}
