package pgtest_test

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"path/filepath"
	"testing"

	"publish-reconciler/repo/pgtest"
)

// jar makes an archive as the repository has them: a zip with one tar.xz. Its programs are scripts that run
// this machine's.
func jar(t *testing.T) []byte {
	t.Helper()
	installed := pgtest.FindPrograms(pgtest.UsualPlaces()...)
	if len(installed) == 0 {
		t.Fatal("this machine has no Postgres programs")
	}
	var archive bytes.Buffer
	tw := tar.NewWriter(&archive)
	for _, name := range []string{"initdb", "pg_ctl", "postgres"} {
		script := fmt.Sprintf("#!/bin/sh\nexec '%s' \"$@\"\n", filepath.Join(installed[0], name))
		add(t, tw, "bin/"+name, script)
	}
	add(t, tw, "share/padding", string(make([]byte, 200_000))) // more than one chunk
	if err := tw.Close(); err != nil {
		t.Fatal(err)
	}

	var out bytes.Buffer
	zw := zip.NewWriter(&out)
	w, err := zw.Create("postgres-test.txz")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(xz(archive.Bytes())); err != nil {
		t.Fatal(err)
	}
	if err := zw.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func add(t *testing.T, tw *tar.Writer, name, text string) {
	t.Helper()
	// 0o700: whoever unpacks it has to let others in.
	if err := tw.WriteHeader(&tar.Header{Name: name, Mode: 0o700, Size: int64(len(text)), Typeflag: tar.TypeReg}); err != nil {
		t.Fatal(err)
	}
	if _, err := tw.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
}

// xz stores data uncompressed in an .xz file of one block, after https://tukaani.org/xz/xz-file-format.txt.
func xz(data []byte) []byte {
	le := binary.LittleEndian
	sum := func(b []byte) []byte { return le.AppendUint32(nil, crc32.ChecksumIEEE(b)) }
	pad := func(b []byte) []byte { return append(b, make([]byte, (4-len(b)%4)%4)...) }

	flags := []byte{0, 1} // blocks are checked with CRC32
	header := append(append([]byte("\xFD7zXZ\x00"), flags...), sum(flags)...)

	// One filter, LZMA2 (0x21), with one byte of properties: the size of its dictionary.
	block := []byte{2, 0, 0x21, 1, 0x16, 0, 0, 0}
	block = append(block, sum(block)...)
	control := byte(1) // uncompressed, and a new dictionary
	for rest := data; len(rest) > 0; control = 2 {
		chunk := rest[:min(len(rest), 1<<16)]
		rest = rest[len(chunk):]
		block = append(block, control)
		block = binary.BigEndian.AppendUint16(block, uint16(len(chunk)-1))
		block = append(block, chunk...)
	}
	block = append(block, 0)
	unpadded := len(block) + 4 // the check is counted, the padding before it is not
	block = append(pad(block), sum(data)...)

	index := []byte{0, 1}
	index = binary.AppendUvarint(index, uint64(unpadded))
	index = binary.AppendUvarint(index, uint64(len(data)))
	index = pad(index)
	index = append(index, sum(index)...)

	end := append(le.AppendUint32(nil, uint32(len(index)/4-1)), flags...)
	footer := append(append(sum(end), end...), "YZ"...)
	return bytes.Join([][]byte{header, block, index, footer}, nil)
}
