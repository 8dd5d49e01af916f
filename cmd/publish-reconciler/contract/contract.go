// Package contract holds what producers and readers of the service's messages build on: every subject, header and body,
// as an AsyncAPI 3 document with JSON Schemas (draft-07). Its tests hold it against the Go types and real messages.
package contract

import (
	"bytes"
	_ "embed"
	"encoding/json"
)

//go:embed asyncapi.json
var document []byte

// unstamped is the document's version as it lies in the file: the releases have one, the file is part of all.
var unstamped = []byte(`"version": "0.0.0"`)

// Document is the AsyncAPI document of the service of this version, as indented JSON.
func Document(version string) []byte {
	text, err := json.Marshal(version)
	if err != nil {
		panic(err) // a string is always JSON
	}
	return bytes.Replace(document, unstamped, append([]byte(`"version": `), text...), 1)
}
