package main

import (
	"encoding/json"
	"errors"
	"net/http"
	"testing"

	"publish-reconciler/cmd/publish-reconciler/contract"
)

func TestContract(t *testing.T) {
	t.Parallel()
	p := begin(t, "contract")
	p.exits(exitOK, soon)
	if p.stdout.String() != string(contract.Document(semanticVersion(version()))) || !json.Valid([]byte(p.stdout.String())) {
		t.Errorf("it prints\n%s", p.stdout.String())
	}
	full := errors.New("no space left on device")
	var stderr buffer
	if status := run(t.Context(), []string{"contract"}, failing{full}, &stderr); status != exitFailure {
		t.Errorf("status %d where it can't be printed", status)
	}
	contains(t, stderr.String(), full.Error())
}

func TestContractIsServed(t *testing.T) {
	t.Parallel()
	s := newWorld(t).serve("--api-token=secret")
	const token = "Bearer secret"
	if got := s.ask("GET", "/asyncapi.json", ""); got.status != http.StatusUnauthorized {
		t.Errorf("without a token: %+v", got)
	}
	got := s.ask("GET", "/asyncapi.json", "", "Authorization", token)
	info, _ := got.body["info"].(map[string]any)
	if got.status != http.StatusOK || got.body["asyncapi"] != "3.0.0" || info["version"] != semanticVersion(version()) {
		t.Errorf("%d, AsyncAPI %v, %v", got.status, got.body["asyncapi"], info)
	}
	if cache := got.header.Get("Cache-Control"); cache != "no-cache" {
		t.Errorf("Cache-Control is %q", cache)
	}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.url+"/asyncapi.json", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", token)
	request.Header.Set("If-None-Match", got.header.Get("ETag"))
	again, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Body.Close()
	if again.StatusCode != http.StatusNotModified {
		t.Errorf("asked again: %s", again.Status)
	}
}
