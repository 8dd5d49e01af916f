package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"net/http"
	"sync"
	"time"

	"publish-reconciler/cmd/publish-reconciler/contract"
)

// contractCommand prints what lies in the binary: it is the contract of this very version.
type contractCommand struct{}

func (*contractCommand) run(_ context.Context, out output) error {
	_, err := out.stdout.Write(ownContract())
	return err
}

// ownContract is this version's. The version is a semantic one, which what is generated from it may need.
func ownContract() []byte { return contract.Document(semanticVersion(version())) }

var contractTag = sync.OnceValue(func() string { return fmt.Sprintf(`"%x"`, sha256.Sum256(ownContract())) })

// serveContract serves the contract. It changes with the binary alone: whoever has it asks whether it is still the same.
func serveContract(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-cache")
	w.Header().Set("ETag", contractTag())
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(ownContract()))
}
