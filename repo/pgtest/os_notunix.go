//go:build !unix

package pgtest

import (
	"errors"
	"io/fs"
	"os"
	"syscall"
)

// Start ends before any of the rest is called; it is here so that the other commands still compile.
const supported = false

var errLocked = errors.New("locked")

func lockDir(string) (*os.File, error) { return nil, errors.ErrUnsupported }

func owner(fs.FileInfo) (uid, gid int) { return -1, -1 }

func ownGroup(*account) *syscall.SysProcAttr { return &syscall.SysProcAttr{} }

func killGroup(int) {}
