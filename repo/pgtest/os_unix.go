//go:build unix

package pgtest

import (
	"errors"
	"io/fs"
	"os"
	"syscall"
)

const supported = true

// errLocked is what lockDir returns when another process, or another server of this one, holds the lock.
var errLocked = errors.New("locked")

// lockDir locks a directory until the file is closed or the process ends, however it ends.
func lockDir(dir string) (*os.File, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		err = errLocked
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func owner(info fs.FileInfo) (uid, gid int) {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return -1, -1
	}
	return int(st.Uid), int(st.Gid)
}

// ownGroup puts a program in a process group of its own, under the account when there is one.
func ownGroup(as *account) *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{Setpgid: true}
	if as != nil {
		// No supplementary groups: root's would come along.
		attr.Credential = &syscall.Credential{Uid: uint32(as.uid), Gid: uint32(as.gid), Groups: []uint32{}}
	}
	return attr
}

// killGroup kills a program that ownGroup was used for, with the programs it started.
func killGroup(pid int) { _ = syscall.Kill(-pid, syscall.SIGKILL) }
