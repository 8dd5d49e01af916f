package repo_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"publish-reconciler/reconciler"
	"publish-reconciler/repo"
)

// refuseBad makes Postgres refuse every write to logs whose post is "bad".
const refuseBad = `
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.external_post_id = 'bad' THEN RAISE EXCEPTION 'this campaign is frozen'; END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER refuse BEFORE UPDATE ON publish_logs FOR EACH ROW EXECUTE FUNCTION refuse();`

func TestWhatPostgresRefuses(t *testing.T) {
	t.Parallel()
	// Hexadecimal digits of random bytes: text that can't be compressed below what an index entry holds.
	long := func(w *world) string {
		return one[string](w, `SELECT string_agg(md5(random()::text), '') FROM generate_series(1, 1000)`)
	}
	rowChange := func(w *world, id uuid.UUID) reconciler.Changes {
		return reconciler.Changes{Rows: []reconciler.RowChange{{LogID: id, Status: "failed", Metadata: map[string]any{"a": 1}}}}
	}
	tests := map[string]struct {
		schema  string
		changes func(*world, uuid.UUID) reconciler.Changes
		says    string
	}{
		"a check constraint": {`ALTER TABLE publish_logs ADD CHECK (status <> 'failed' OR extra_metadata ? 'who')`, rowChange, "violates check constraint"},
		"a trigger":          {refuseBad, rowChange, "this campaign is frozen"},
		"an assertion in a trigger": {`
			CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN ASSERT OLD.external_post_id <> 'bad', 'never this one'; RETURN NEW; END $$;
			CREATE TRIGGER no BEFORE UPDATE ON publish_logs FOR EACH ROW EXECUTE FUNCTION no()`, rowChange, "never this one"},
		"a constraint that is looked at on commit": {`
			CREATE FUNCTION late() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'too late'; END $$;
			CREATE CONSTRAINT TRIGGER late AFTER UPDATE ON publish_logs DEFERRABLE INITIALLY DEFERRED
			    FOR EACH ROW EXECUTE FUNCTION late()`, rowChange, "too late"},
		"a column too short": {
			`ALTER TABLE publish_logs ALTER COLUMN external_url TYPE varchar(10)`,
			func(_ *world, id uuid.UUID) reconciler.Changes {
				return reconciler.Changes{Rows: []reconciler.RowChange{{LogID: id, Status: "success", ExternalURL: "https://example.com/"}}}
			}, "value too long",
		},
		"a text it can't hold": {``, func(_ *world, id uuid.UUID) reconciler.Changes {
			zero := "\x00"
			return reconciler.Changes{Rows: []reconciler.RowChange{{LogID: id, Status: "failed", Error: &zero}}}
		}, "invalid byte sequence"},
		"JSON it can't hold": {``, func(_ *world, id uuid.UUID) reconciler.Changes {
			return reconciler.Changes{Ledger: []reconciler.Event{{
				ID: uuid.New(), LogID: id, Type: "t", Severity: "info", Metadata: map[string]any{"a": "\x00"},
			}}}
		}, "unsupported Unicode escape sequence"},
		"an index entry too large": {``, func(w *world, _ uuid.UUID) reconciler.Changes {
			return reconciler.Changes{Park: []reconciler.ParkedWebhook{parked(long(w), "x", time.Now())}}
		}, "index row"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			if tt.schema != "" {
				w.exec(tt.schema)
			}
			good := w.publish("instagram", "good", "processing", time.Hour)
			bad := w.publish("instagram", "bad", "processing", time.Hour)
			goodBefore, badBefore := w.version(good), w.version(bad)
			w.lock(logIDs(bad))
			backend := w.backends(`true`)

			changes := tt.changes(w, bad)
			changes.Rows = append([]reconciler.RowChange{{LogID: good, Status: "pending"}}, changes.Rows...)
			err := w.store.Transact(t.Context(), logIDs(good, bad), decided(changes))
			if !errors.Is(err, reconciler.ErrRefused) || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("error %v, want ErrRefused: %s", err, tt.says)
			}
			equal(t, "versions", []string{w.version(good), w.version(bad)}, []string{goodBefore, badBefore})
			equal(t, "ledger and parked", one[int](w,
				`SELECT (SELECT count(*) FROM ledger_events) + (SELECT count(*) FROM parked_webhooks)`), 0)

			w.lock(logIDs(good, bad))
			equal(t, "backends after the next call", w.backends(`true`), backend)
		})
	}
}

func TestAKeyThatPostgresRefuses(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	keys := reconciler.Keys{Posts: []reconciler.Post{{Platform: "instagram", ExternalPostID: "a\x00b"}}}
	err := w.store.Transact(t.Context(), keys, func(reconciler.Locked) reconciler.Changes {
		t.Error("it was decided on")
		return reconciler.Changes{}
	})
	if !errors.Is(err, reconciler.ErrRefused) {
		t.Errorf("error %v, want ErrRefused", err)
	}
	equal(t, "connections left in a transaction", w.backends(`state LIKE 'idle in transaction%'`), []int32{})
}

func TestAConnectionThatBreaks(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.publish("instagram", "ig_1", "processing", time.Hour)
	before := w.version(id)
	err := w.store.Transact(t.Context(), logIDs(id), func(reconciler.Locked) reconciler.Changes {
		w.exec(`SELECT pg_terminate_backend($1, 5000)`, w.backends(`true`)[0])
		return reconciler.Changes{Rows: []reconciler.RowChange{{LogID: id, Status: "failed"}}}
	})
	if err == nil || errors.Is(err, reconciler.ErrRefused) {
		t.Errorf("error %v, want one that is worth another try", err)
	}
	equal(t, "version", w.version(id), before)
	w.transact(logIDs(id), write(reconciler.RowChange{LogID: id, Status: "failed"}))
	equal(t, "status after the next call", w.row(id).Status, "failed")
}

func TestAPanicLeavesNoLock(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.publish("instagram", "ig_1", "processing", time.Hour)
	func() {
		defer func() {
			if recover() == nil {
				t.Error("no panic")
			}
		}()
		w.transact(logIDs(id), func(reconciler.Locked) reconciler.Changes { panic("a bug") })
	}()
	w.transact(logIDs(id), write(reconciler.RowChange{LogID: id, Status: "failed"}))
}

func TestATimeLimitNamesTheOperation(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	free := w.publish("instagram", "ig_1", "processing", time.Hour)
	held := w.publish("instagram", "ig_2", "processing", time.Hour)
	w.exec(`INSERT INTO parked_webhooks VALUES (gen_random_uuid(), 'instagram', 'ig_1', '{}', now())`)
	const limit = 300 * time.Millisecond
	w.store = openStore(t, repo.Config{URL: w.url, Timeout: limit})
	release := w.hold(`SELECT FROM publish_logs WHERE id = $1 FOR UPDATE`, held)
	defer release()

	start := time.Now()
	err := w.store.Transact(t.Context(), logIDs(free, held), decided(reconciler.Changes{}))
	if took := time.Since(start); took < limit || took > soon/4 {
		t.Errorf("it took %s", took)
	}
	isTimeout(t, err, "reconcile a batch: no answer from postgres within 300ms")
	w.until("the lock it had got already is gone", func() bool {
		return len(column[uuid.UUID](w, `SELECT id FROM publish_logs WHERE id = $1 FOR UPDATE SKIP LOCKED`, free)) == 1
	})

	release()
	defer w.hold(`LOCK TABLE publish_logs`)()
	_, err = w.store.DueLogs(t.Context(), reconciler.Due{Now: time.Now(), Limit: 1})
	isTimeout(t, err, "page through due logs: no answer from postgres within 300ms")
	_, _, err = w.store.ParkedLogs(t.Context(), uuid.Nil, 1)
	isTimeout(t, err, "page through parked webhooks: no answer from postgres within 300ms")
}

func isTimeout(t *testing.T, err error, text string) {
	t.Helper()
	if !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, reconciler.ErrRefused) || err.Error() != text {
		t.Errorf("error %v, want %s", err, text)
	}
}

func TestACallerWhoGoesAway(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.publish("instagram", "ig_1", "processing", time.Hour)
	before := w.version(id)
	ctx, cancel := context.WithCancel(t.Context())
	err := w.store.Transact(ctx, logIDs(id), func(reconciler.Locked) reconciler.Changes {
		cancel()
		return reconciler.Changes{Rows: []reconciler.RowChange{{LogID: id, Status: "failed"}}}
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want Canceled", err)
	}
	equal(t, "version", w.version(id), before)
	w.transact(logIDs(id), write(reconciler.RowChange{LogID: id, Status: "failed"}))
}

func TestConnectionSettings(t *testing.T) {
	t.Parallel()
	tests := map[string]struct{ param, want string }{
		"the service's own": {"", "30s 500ms publish-reconciler"},
		"the URL's":         {"idle_in_transaction_session_timeout=7s&lock_timeout=8s&application_name=other", "7s 8s other"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.exec(`CREATE FUNCTION settings() RETURNS trigger LANGUAGE plpgsql AS $$
			        BEGIN
			            NEW.error_message := concat_ws(' ', current_setting('idle_in_transaction_session_timeout'),
			                                           current_setting('lock_timeout'), current_setting('application_name'));
			            RETURN NEW;
			        END $$;
			        CREATE TRIGGER settings BEFORE UPDATE ON publish_logs FOR EACH ROW EXECUTE FUNCTION settings()`)
			id := w.publish("instagram", "ig_1", "processing", 0)
			w.store = openStore(t, repo.Config{URL: withParam(w.url, tt.param)})
			w.transact(logIDs(id), write(reconciler.RowChange{LogID: id, Status: "processing"}))
			equal(t, "settings", w.row(id).Error, tt.want)
		})
	}
}

// What is acknowledged is on the disk, even where the server is set to say so before it is.
func TestACommitWaitsForTheDisk(t *testing.T) {
	t.Parallel()
	for set, want := range map[string]string{"off": "on", "on": "on", "local": "local", "remote_apply": "remote_apply"} {
		t.Run(set, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.exec(`CREATE TABLE committed AS SELECT ''::text AS how`)
			w.exec(`CREATE FUNCTION committing() RETURNS trigger LANGUAGE plpgsql AS $$
			        BEGIN UPDATE committed SET how = current_setting('synchronous_commit'); RETURN NULL; END $$;
			        CREATE CONSTRAINT TRIGGER committing AFTER UPDATE ON publish_logs DEFERRABLE INITIALLY DEFERRED
			            FOR EACH ROW EXECUTE FUNCTION committing()`)
			id := w.publish("instagram", "ig_1", "processing", 0)
			w.store = openStore(t, repo.Config{URL: withParam(w.url, "synchronous_commit="+set)})
			for range 2 { // the second time on a connection that has done it before
				w.exec(`UPDATE committed SET how = ''`)
				w.transact(logIDs(id), write(reconciler.RowChange{LogID: id, Status: "processing"}))
				equal(t, "synchronous_commit", one[string](w, `SELECT how FROM committed`), want)
			}
		})
	}
}

func TestAStoreOfABrokenServer(t *testing.T) {
	t.Parallel()
	store := openStore(t, repo.Config{URL: "postgres://ana@127.0.0.1:1/db", Timeout: time.Second})
	if _, err := store.Now(t.Context()); err == nil || errors.Is(err, reconciler.ErrRefused) {
		t.Errorf("error %v, want one that is worth another try", err)
	}
}
