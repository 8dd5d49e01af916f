package streams_test

import (
	"testing"

	"publish-reconciler/streams"
)

func TestAllows(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		subjects streams.Subjects
		subject  string
		want     bool
	}{
		"nothing is said":               {streams.Subjects{}, "a.b", true},
		"named":                         {streams.Subjects{Allow: []string{"x", "a.b"}}, "a.b", true},
		"not named":                     {streams.Subjects{Allow: []string{"a.c", "a", "a.b.c"}}, "a.b", false},
		"all of it":                     {streams.Subjects{Allow: []string{"a.>"}}, "a.*", true},
		"some of it":                    {streams.Subjects{Allow: []string{"a.b"}}, "a.*", false},
		"of a queue group":              {streams.Subjects{Allow: []string{"a.* group"}}, "a.b", true},
		"denied":                        {streams.Subjects{Deny: []string{"a.b"}}, "a.b", false},
		"denied in part":                {streams.Subjects{Allow: []string{"a.*"}, Deny: []string{"a.b"}}, "a.*", false},
		"denied by a wildcard":          {streams.Subjects{Deny: []string{"*.b"}}, "a.>", false},
		"something longer is denied":    {streams.Subjects{Deny: []string{"a.b.c"}}, "a.*", true},
		"something shorter is denied":   {streams.Subjects{Deny: []string{"a"}}, "a.b", true},
		"what is below it is denied":    {streams.Subjects{Deny: []string{"a.b.>"}}, "a.b", true},
		"something different is denied": {streams.Subjects{Deny: []string{"a.c", "b.*"}}, "a.b", true},
	} {
		if got := tt.subjects.Allows(tt.subject); got != tt.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
