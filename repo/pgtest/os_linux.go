package pgtest

import "syscall"

const maxSocketPath = 107 // sockaddr_un.sun_path has 108 bytes, the last of them 0

// dieWithParent lets the kernel shut Postgres down in order when this process is killed.
func dieWithParent(attr *syscall.SysProcAttr) { attr.Pdeathsig = syscall.SIGINT }

// freeBytes is the room in dir, 0 when there is no such directory.
func freeBytes(dir string) int64 {
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		return 0
	}
	return int64(st.Bavail) * st.Bsize
}
