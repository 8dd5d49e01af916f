package pgtest

import (
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
)

// account is the user that Postgres runs as in root's place. Nil: the caller itself.
type account struct {
	name     string
	uid, gid int
}

// String is for the end of a phrase that says what was run.
func (a *account) String() string {
	if a == nil {
		return ""
	}
	return " as user " + a.name
}

// runAs chooses the account: none unless the caller is root, which Postgres refuses to run as.
func runAs(pgdata string) (*account, error) {
	if os.Geteuid() != 0 {
		return nil, nil //nolint:nilnil // documented at account
	}
	// A cluster can be run by its owner only, who may be a user that ran `dev` before root did.
	if info, err := os.Stat(pgdata); err == nil {
		if uid, gid := owner(info); uid != 0 {
			return &account{name: nameOf(uid), uid: uid, gid: gid}, nil
		}
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, uidErr := strconv.Atoi(u.Uid)
		gid, gidErr := strconv.Atoi(u.Gid)
		if uidErr == nil && gidErr == nil {
			return &account{name: name, uid: uid, gid: gid}, nil
		}
	}
	return nil, fmt.Errorf("postgres refuses to run as root, and this machine has no user postgres or nobody to run it as")
}

func nameOf(uid int) string {
	if u, err := user.LookupId(strconv.Itoa(uid)); err == nil {
		return u.Username
	}
	return strconv.Itoa(uid)
}

// own hands path over to the account.
func (a *account) own(path string) error {
	if a == nil {
		return nil
	}
	if err := os.Chown(path, a.uid, a.gid); err != nil {
		return fmt.Errorf("hand over to %s: %w", a.name, err)
	}
	return nil
}

// unenterable returns the first directory on the way to dir, itself included, that the account may not
// enter. Empty: none, or the account is the caller. It reads the permission bits only and knows nothing of
// access lists, so where it can be tried, this is asked only for why it was refused.
func (a *account) unenterable(dir string) string {
	if a == nil {
		return ""
	}
	if resolved, err := filepath.EvalSymlinks(dir); err == nil {
		dir = resolved
	}
	path := "/"
	for part := range strings.SplitSeq(dir, "/") {
		path = filepath.Join(path, part)
		info, err := os.Stat(path)
		if err != nil {
			return ""
		}
		bit := os.FileMode(0o001)
		if uid, gid := owner(info); uid == a.uid {
			bit = 0o100
		} else if gid == a.gid {
			bit = 0o010
		}
		if info.Mode()&bit == 0 {
			return path
		}
	}
	return ""
}

func noEntry(dir string, as *account) error {
	return fmt.Errorf("directory %s cannot be entered by the user %s, which Postgres runs as because it refuses root: allow that (chmod o+x) or choose another directory", dir, as.name)
}
