package streams

// What the tests look at and nobody else needs.
var (
	CheckVersion = checkVersion
	TakesIn      = takesIn
	Body         = Check.body
)
