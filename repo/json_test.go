package repo_test

import (
	"encoding/json"
	"math"
	"testing"

	"pgregory.net/rapid"

	"publish-reconciler/repo"
)

// Whatever an object holds, it is read as json.Marshal's would be.
func TestEncodeObject(t *testing.T) {
	t.Parallel()
	var encoder repo.Encoder
	scalar := rapid.OneOf(
		rapid.Just(any(nil)), rapid.Bool().AsAny(), rapid.String().AsAny(), rapid.Int().AsAny(), rapid.Float64().AsAny(),
		rapid.SampledFrom([]json.Number{"1", "-2.50", "1e300"}).AsAny(), rapid.StringMatching(`[ -~]*`).AsAny(),
	)
	value := rapid.OneOf(scalar, rapid.SliceOfN(scalar, 0, 3).AsAny(), rapid.MapOfN(rapid.String(), scalar, 0, 3).AsAny())
	rapid.Check(t, func(t *rapid.T) {
		object := rapid.MapOfN(rapid.OneOf(rapid.String(), rapid.SampledFrom([]string{`"`, `\`, "\x00", "<", "é", "\u2028"})), value, 0, 5).Draw(t, "object")
		want, err := json.Marshal(object)
		if err != nil {
			t.Fatal(err)
		}
		got, err := encoder.Object(object)
		if err != nil {
			t.Fatal(err)
		}
		var a, b any
		if json.Unmarshal(want, &a) != nil || json.Unmarshal([]byte(got), &b) != nil {
			t.Fatalf("%s is no JSON, or %s", got, want)
		}
		x, _ := json.Marshal(a)
		y, _ := json.Marshal(b)
		if string(x) != string(y) {
			t.Errorf("%s, want %s", got, want)
		}
	})
	if got, err := encoder.Object(nil); err != nil || got != "{}" {
		t.Error(got, err)
	}
	if got, err := encoder.Object(map[string]any{"a": math.Inf(1)}); err == nil {
		t.Error(got)
	}
}
