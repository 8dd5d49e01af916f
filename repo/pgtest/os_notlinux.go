//go:build !linux

package pgtest

import "syscall"

const maxSocketPath = 103 // macOS and the BSDs: sockaddr_un.sun_path has 104 bytes, the last of them 0

// dieWithParent does nothing: only Linux can tie a child to its parent.
func dieWithParent(*syscall.SysProcAttr) {}

// freeBytes is asked about Linux's /dev/shm only.
func freeBytes(string) int64 { return 0 }
