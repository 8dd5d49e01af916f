package main

import (
	"encoding"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"publish-reconciler/cmd/publish-reconciler/contract/contracttest"
	"publish-reconciler/consumer"
	"publish-reconciler/reconciler"
	"publish-reconciler/streams"
)

// contractTypes are what the service writes, and their schemas.
var contractTypes = map[string]reflect.Type{
	"SweepResult":    reflect.TypeFor[reconciler.SweepResult](),
	"OverrideAnswer": reflect.TypeFor[overrideAnswer](),
	"LogView":        reflect.TypeFor[logAnswer](),
	"LogRow":         reflect.TypeFor[reconciler.Row](),
	"LogPage":        reflect.TypeFor[logsAnswer](),
	"ServiceStatus":  reflect.TypeFor[statusAnswer](),
	"Error":          reflect.TypeFor[errorAnswer](),
	"StateChange":    reflect.TypeFor[reconciler.StateChange](),
	"HoldBegun":      reflect.TypeFor[reconciler.HoldBegun](),
	"ProbeRequest":   reflect.TypeFor[streams.ProbeRequest](),
}

// A field that is new, gone or of another type is a change of the contract: the document has to say so.
func TestContractOfTypes(t *testing.T) {
	t.Parallel()
	c := contracttest.Load(t)
	for name, typ := range contractTypes {
		schema := c.At("components", "schemas", name)
		comparison{t, c}.compare(name, typ, schema)
		for how, all := range map[string]bool{"all fields": true, "no field that may be missing": false} {
			value := reflect.New(typ).Elem()
			fill(value, all)
			body, err := json.Marshal(value.Interface())
			if err != nil {
				t.Fatal(err)
			}
			if err := c.ValidateJSON("#/components/schemas/"+name, body); err != nil {
				t.Errorf("%s with %s: %v\n%s", name, how, err, body)
			}
		}
	}
}

// What an endpoint takes, and that it has its channel.
func TestContractOfEndpoints(t *testing.T) {
	t.Parallel()
	c := contracttest.Load(t)
	var addresses []string
	for _, e := range new(operator).endpoints() {
		address := streams.APISubject(e.name)
		addresses = append(addresses, address)
		if channel := c.Channel(address); channel != e.name {
			t.Errorf("%s belongs to the channel %q", address, channel)
		}
		if description, _ := c.At("channels", e.name)["description"].(string); !strings.HasPrefix(description, e.description) {
			t.Errorf("%s is described as %q, and over NATS as %q", e.name, description, e.description)
		}
		params, properties := slices.Sorted(slices.Values(e.params)), c.Names("components", "messages", e.name+"Request", "payload", "properties")
		if !slices.Equal(params, properties) {
			t.Errorf("%s takes %q, and its schema has %q", e.name, params, properties)
		}
	}
	for _, channel := range c.Names("channels") {
		address, _ := c.At("channels", channel)["address"].(string)
		if strings.HasPrefix(address, streams.APISubject("")) && !slices.Contains(addresses, address) {
			t.Errorf("there is no endpoint at %s", address)
		}
	}
}

// comparison holds Go types against schemas.
type comparison struct {
	testing.TB
	contract *contracttest.Contract
}

// compare tells where a schema does not say what a type's JSON is.
func (c comparison) compare(at string, typ reflect.Type, schema map[string]any) {
	c.Helper()
	schema = c.contract.Follow(schema)
	if typ.Kind() == reflect.Pointer {
		inner, nullable := withoutNull(schema)
		if !nullable {
			c.Errorf("%s may be null, and the schema says no such thing", at)
		}
		c.compare(at, typ.Elem(), inner)
		return
	}
	if typ.Implements(reflect.TypeFor[encoding.TextMarshaler]()) {
		c.wantType(at, schema, "string")
		if isTime := typ == reflect.TypeFor[time.Time](); isTime != (schema["format"] == "date-time") {
			c.Errorf("%s is a %s, and its format %v", at, typ, schema["format"])
		}
		return
	}
	switch {
	case typ == reflect.TypeFor[json.RawMessage]():
		if schema["type"] != nil {
			c.Errorf("%s is any JSON, and the schema wants %v", at, schema["type"])
		}
	case typ.Kind() == reflect.Struct:
		c.compareStruct(at, typ, schema)
	case typ.Kind() == reflect.Slice:
		inner, _ := withoutNull(schema)
		c.wantType(at, inner, "array")
		items, _ := inner["items"].(map[string]any)
		if typ.Elem() != reflect.TypeFor[json.RawMessage]() { // rows, which were encoded before
			c.compare(at+"[]", typ.Elem(), items)
		}
	case typ.Kind() == reflect.Map:
		c.wantType(at, schema, "object")
		values, _ := schema["additionalProperties"].(map[string]any)
		c.compare(at+"{}", typ.Elem(), values)
	case typ.Kind() == reflect.String:
		if schema["oneOf"] == nil { // of words
			c.wantType(at, schema, "string")
		}
	case typ.Kind() == reflect.Bool:
		c.wantType(at, schema, "boolean")
	case typ.Kind() == reflect.Float64:
		c.wantType(at, schema, "number")
	default:
		c.wantType(at, schema, "integer")
	}
}

func (c comparison) compareStruct(at string, typ reflect.Type, schema map[string]any) {
	c.Helper()
	properties, required := map[string]any{}, map[string]bool{}
	parts, _ := schema["allOf"].([]any)
	for _, part := range append(parts, schema) {
		part := c.contract.Follow(part.(map[string]any))
		own, _ := part["properties"].(map[string]any)
		maps.Copy(properties, own)
		names, _ := part["required"].([]any)
		for _, name := range names {
			required[name.(string)] = true
		}
	}
	for field := range jsonFields(typ) {
		property, found := properties[field.name].(map[string]any)
		if !found {
			c.Errorf("%s has the field %s, and the schema does not", at, field.name)
			continue
		}
		delete(properties, field.name)
		if required[field.name] == field.optional {
			c.Errorf("%s.%s: it may be left out: %t; it is required: %t", at, field.name, field.optional, required[field.name])
		}
		c.compare(at+"."+field.name, field.typ, property)
	}
	for name := range properties {
		c.Errorf("%s has no field %s, and the schema has", at, name)
	}
}

func (c comparison) wantType(at string, schema map[string]any, want string) {
	c.Helper()
	if schema["type"] != want {
		c.Errorf("%s is a %s, and in the schema %v", at, want, schema)
	}
}

// withoutNull is a schema's other half, where it may be null.
func withoutNull(schema map[string]any) (_ map[string]any, nullable bool) {
	if types, is := schema["type"].([]any); is && slices.Contains(types, any("null")) {
		other := maps.Clone(schema)
		other["type"] = types[0]
		return other, true
	}
	if either, is := schema["oneOf"].([]any); is && len(either) == 2 && either[0].(map[string]any)["type"] == "null" {
		return either[1].(map[string]any), true
	}
	return schema, false
}

type jsonField struct {
	name     string
	typ      reflect.Type
	optional bool
}

// jsonFields are the fields that encoding/json writes of a struct, those of embedded structs among them.
func jsonFields(typ reflect.Type) func(yield func(jsonField) bool) {
	return func(yield func(jsonField) bool) {
		for field := range typ.Fields() {
			name, options, _ := strings.Cut(field.Tag.Get("json"), ",")
			switch {
			case name == "-":
			case field.Anonymous && name == "":
				jsonFields(field.Type)(yield)
			default:
				if name == "" {
					panic(fmt.Sprintf("%s.%s has no name for JSON", typ, field.Name))
				}
				if !yield(jsonField{name, field.Type, strings.HasPrefix(options, "omit")}) {
					return
				}
			}
		}
	}
}

// fill gives every field a value that it may have; or, unless all, no value where it may have none.
func fill(value reflect.Value, all bool) {
	switch known := value.Addr().Interface().(type) {
	case *time.Time:
		*known = time.Date(2026, 1, 15, 10, 30, 0, 123456789, time.UTC)
		return
	case *uuid.UUID:
		*known = uuid.MustParse(unknownLog)
		return
	case *json.RawMessage:
		*known = json.RawMessage(`{}`)
		return
	case *reconciler.Status:
		*known = reconciler.StatusFailed
		return
	case *reconciler.Reason:
		*known = reconciler.ReasonWebhookTimeout
		return
	case *reconciler.Trigger:
		*known = reconciler.TriggerSweep
		return
	case *consumer.SweepReason:
		*known = consumer.SweepFoundWork
		return
	case *[]json.RawMessage:
		*known = []json.RawMessage{}
		return
	case *map[string]string:
		*known = map[string]string{"postgres": partOK, "nats": partOK, "consumers": "not running"}
		return
	}
	switch value.Kind() {
	case reflect.Struct:
		for field, part := range value.Fields() {
			if _, options, _ := strings.Cut(field.Tag.Get("json"), ","); all || !strings.HasPrefix(options, "omit") {
				fill(part, all)
			}
		}
	case reflect.Pointer:
		if all {
			value.Set(reflect.New(value.Type().Elem()))
			fill(value.Elem(), all)
		}
	case reflect.Slice:
		value.Set(reflect.MakeSlice(value.Type(), 0, 1))
		if all {
			value.Set(reflect.Append(value, reflect.Zero(value.Type().Elem())))
			fill(value.Index(0), all)
		}
	case reflect.String:
		value.SetString("text")
	case reflect.Bool:
		value.SetBool(true)
	case reflect.Float64:
		value.SetFloat(1.5)
	case reflect.Uint64:
		value.SetUint(7)
	default:
		value.SetInt(7)
	}
}
