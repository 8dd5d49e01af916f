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
func (r *Replayer) Store(ctx context.Context, letter Letter) (before bool, err error) {
	return r.store(ctx, letter)
}

// Begin is a replay of a webhook that is cut off before it is stored.
func (r *Replayer) Begin(ctx context.Context, letter Letter) error {
	return r.begin(ctx, letter, r.firstNote(letter))
}
