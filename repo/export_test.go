package repo

// The statements whose plans are tested.
const (
	DueSQL          = dueSQL
	LockPostsSQL    = lockPostsSQL
	LockLogsSQL     = lockLogsSQL
	PruneLedgerSQL  = pruneLedgerSQL
	BacklogSQL      = backlogSQL
	ActivitySQL     = activitySQL
	ConfirmTimesSQL = confirmTimesSQL
)

// MigrationsLock is the advisory lock of whoever migrates.
const MigrationsLock = migrationsLock

// Migrations are the files of the schema's versions.
var Migrations = migrations

// FindPostSQL is the search for a post.
var FindPostSQL = findPostSQL

// ListSQL is the statement of a list's page.
var ListSQL = listSQL

// Encoder writes JSON objects.
type Encoder struct{ encoder }

// Object is a JSON object.
func (e *Encoder) Object(object map[string]any) (string, error) { return e.encoder.object(object) }
