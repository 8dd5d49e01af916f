package bench

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func TestMediansCount(t *testing.T) {
	t.Parallel()
	var all []Figure
	for _, run := range []struct{ value, limit float64 }{{10, 40}, {30, 20}, {20, 80}, {40, 10}} {
		all = merge(all, []Figure{{Value: run.value, Target: 25, Limits: []Limit{{Value: run.limit, Target: 0.9}}}})
	}
	want := []Figure{{Value: 25, Runs: []float64{10, 30, 20, 40}, Target: 25, Limits: []Limit{{Value: 30, Ratio: 25. / 30, Target: 0.9}}}}
	if diff := cmp.Diff(want, all, cmpopts.IgnoreUnexported(Limit{})); diff != "" {
		t.Error(diff)
	}
}

func TestMet(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		figure Figure
		want   bool
	}{
		"enough":          {Figure{Value: 2, Target: 2}, true},
		"too little":      {Figure{Value: 1, Target: 2}, false},
		"little enough":   {Figure{Value: 1, Target: 1, Most: true}, true},
		"too much":        {Figure{Value: 2, Target: 1, Most: true}, false},
		"no target":       {Figure{Value: 1}, true},
		"a ratio missed":  {Figure{Value: 3, Target: 2, Limits: []Limit{{Ratio: 0.4, Target: 0.5}}}, false},
		"a ratio reached": {Figure{Value: 3, Target: 2, Limits: []Limit{{Ratio: 0.5, Target: 0.5}, {Ratio: 0.1}}}, true},
	} {
		if got := test.figure.Met(); got != test.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}
