// Package contracttest reads the contract as its users do, and holds messages against it: for tests.
package contracttest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"publish-reconciler/cmd/publish-reconciler/contract"
)

// location is where the schemas' compiler finds the document.
const location = "asyncapi.json"

// Contract is the document, read. It is safe for use by several goroutines.
type Contract struct {
	// Root is the whole document.
	Root map[string]any

	mu       sync.Mutex
	compiler *jsonschema.Compiler
}

// Load is the document with all its schemas compiled, the same for all tests of a process.
func Load(tb testing.TB) *Contract {
	tb.Helper()
	c, err := load()
	if err != nil {
		tb.Fatal(err)
	}
	return c
}

var load = sync.OnceValues(func() (*Contract, error) {
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(contract.Document("1.2.3")))
	if err != nil {
		return nil, err
	}
	c := &Contract{compiler: jsonschema.NewCompiler()}
	c.compiler.DefaultDraft(jsonschema.Draft7) // AsyncAPI's own schemas are a superset of it
	c.compiler.AssertFormat()
	if err := c.compiler.AddResource(location, document); err != nil {
		return nil, err
	}
	c.Root, _ = document.(map[string]any)
	for _, name := range c.Names("components", "schemas") {
		if _, err := c.compile("#/components/schemas/" + name); err != nil {
			return nil, err
		}
	}
	return c, nil
})

// At is the object at a path from the root; nil where there is none. References on the way are followed.
func (c *Contract) At(path ...string) map[string]any {
	here := c.Root
	for _, name := range path {
		here, _ = here[name].(map[string]any)
		here = c.Follow(here)
	}
	return here
}

// Names are the keys of the object at a path, sorted.
func (c *Contract) Names(path ...string) []string { return slices.Sorted(maps.Keys(c.At(path...))) }

// Follow is the object that a reference leads to; what is none is itself.
func (c *Contract) Follow(object map[string]any) map[string]any {
	reference, is := object["$ref"].(string)
	if !is {
		return object
	}
	return c.At(strings.Split(strings.TrimPrefix(reference, "#/"), "/")...)
}

// Channel is the name of the channel that a subject belongs to; empty where there is none.
func (c *Contract) Channel(subject string) string {
	for _, name := range c.Names("channels") {
		if address, _ := c.At("channels", name)["address"].(string); address != "" && c.matches(name, address, subject) {
			return name
		}
	}
	return ""
}

func (c *Contract) matches(channel, address, subject string) bool {
	wants, tokens := strings.Split(address, "."), strings.Split(subject, ".")
	if len(wants) != len(tokens) {
		return false
	}
	for i, want := range wants {
		name, isParameter := strings.CutPrefix(want, "{")
		if !isParameter {
			if want != tokens[i] {
				return false
			}
			continue
		}
		values, limited := c.At("channels", channel, "parameters", strings.TrimSuffix(name, "}"))["enum"].([]any)
		if limited && !slices.Contains(values, any(tokens[i])) {
			return false
		}
	}
	return true
}

// ValidateSubject holds a message against what its subject's channel takes. It returns the channel's name.
func (c *Contract) ValidateSubject(subject string, header nats.Header, body []byte) (string, error) {
	channel := c.Channel(subject)
	if channel == "" {
		return "", fmt.Errorf("no channel has the subject %s", subject)
	}
	return channel, c.ValidateChannel(channel, header, body)
}

// ValidateChannel holds a message against the messages of a channel: nil where it is one of them, and one alone.
func (c *Contract) ValidateChannel(channel string, header nats.Header, body []byte) error {
	var errs []error
	names := c.Names("channels", channel, "messages")
	for _, name := range names {
		if err := c.Validate(name, header, body); err != nil {
			errs = append(errs, fmt.Errorf("message %s: %w", name, err))
		}
	}
	if len(errs) == len(names)-1 {
		return nil
	}
	if len(errs) < len(names) {
		return errors.New("it passes for more than one message")
	}
	return errors.Join(errs...)
}

// Validate holds headers and body against a message of components/messages. An empty body counts as the
// message's x-empty-body says, where it has one.
func (c *Contract) Validate(message string, header nats.Header, body []byte) error {
	schema := c.At("components", "messages", message)
	if schema == nil {
		return fmt.Errorf("there is no message %s", message)
	}
	if schema["headers"] != nil {
		flat := make(map[string]any, len(header))
		for name := range header {
			flat[name] = header.Get(name)
		}
		if err := c.against("#/components/messages/"+message+"/headers", flat); err != nil {
			return fmt.Errorf("headers: %w", err)
		}
	}
	if schema["payload"] == nil { // any bytes
		return nil
	}
	if empty, allowed := schema["x-empty-body"]; allowed && len(bytes.TrimSpace(body)) == 0 {
		return c.against("#/components/messages/"+message+"/payload", empty)
	}
	return c.ValidateJSON("#/components/messages/"+message+"/payload", body)
}

// ValidateJSON holds a text against the schema at a JSON pointer, such as #/components/schemas/Check.
func (c *Contract) ValidateJSON(pointer string, body []byte) error {
	// The package's own decoder: one JSON value, all of it.
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(body))
	if err != nil {
		return err
	}
	return c.against(pointer, value)
}

func (c *Contract) against(pointer string, value any) error {
	schema, err := c.compile(pointer)
	if err != nil {
		return err
	}
	return schema.Validate(value)
}

// compile may not be called by two at the same time: the compiler remembers.
func (c *Contract) compile(pointer string) (*jsonschema.Schema, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.compiler.Compile(location + pointer)
}

// Example is one of a message's own examples.
type Example struct {
	Name   string
	Header nats.Header
	// Body is the payload as JSON; nil where the example has none.
	Body []byte
}

// Examples are those of a message of components/messages.
func (c *Contract) Examples(tb testing.TB, message string) []Example {
	tb.Helper()
	all, _ := c.At("components", "messages", message)["examples"].([]any)
	examples := make([]Example, len(all))
	for i, one := range all {
		fields, _ := one.(map[string]any)
		examples[i].Name, _ = fields["name"].(string)
		headers, _ := fields["headers"].(map[string]any)
		examples[i].Header = nats.Header{}
		for name, value := range headers {
			examples[i].Header.Set(name, fmt.Sprint(value))
		}
		if payload, has := fields["payload"]; has {
			body, err := json.Marshal(payload)
			if err != nil {
				tb.Fatal(err)
			}
			examples[i].Body = body
		}
	}
	return examples
}
