package monitoring

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/VictoriaMetrics/metricsql"
	"go.yaml.in/yaml/v3"
)

type rules struct {
	Groups []struct {
		Name  string `yaml:"name"`
		Rules []rule `yaml:"rules"`
	} `yaml:"groups"`
}

type rule struct {
	Record      string            `yaml:"record"`
	Alert       string            `yaml:"alert"`
	Expr        string            `yaml:"expr"`
	For         string            `yaml:"for"`
	Labels      map[string]string `yaml:"labels"`
	Annotations map[string]string `yaml:"annotations"`
}

func readRules(t *testing.T) (all []rule) {
	t.Helper()
	var r rules
	decoder := yaml.NewDecoder(strings.NewReader(Alerts))
	decoder.KnownFields(true)
	if err := decoder.Decode(&r); err != nil {
		t.Fatal(err)
	}
	for _, group := range r.Groups {
		all = append(all, group.Rules...)
	}
	if len(all) == 0 {
		t.Fatal("no rules")
	}
	return all
}

func TestAlertsAreComplete(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile("../../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, r := range readRules(t) {
		if r.Record != "" {
			continue
		}
		if seen[r.Alert] {
			t.Errorf("two alerts are %s", r.Alert)
		}
		seen[r.Alert] = true
		if wait, err := time.ParseDuration(r.For); err != nil || wait <= 0 {
			t.Errorf("%s: for is %q", r.Alert, r.For)
		}
		if severity := r.Labels["severity"]; severity != "page" && severity != "ticket" {
			t.Errorf("%s: severity is %q", r.Alert, severity)
		}
		for _, name := range []string{"summary", "description", "runbook"} {
			if r.Annotations[name] == "" {
				t.Errorf("%s has no %s", r.Alert, name)
			}
		}
		if !strings.Contains(string(readme), "`"+r.Alert+"`") {
			t.Errorf("the README does not tell of %s", r.Alert)
		}
	}
}

func TestRulesNameWhatExists(t *testing.T) {
	t.Parallel()
	metrics := exposed(t)
	for _, r := range readRules(t) {
		labels := metrics.check(t, r.Alert+r.Record, r.Expr)
		if r.Record != "" {
			metrics[r.Record] = labels
		}
		for _, text := range r.Annotations {
			for _, used := range regexp.MustCompile(`\$labels\.(\w+)`).FindAllStringSubmatch(text, -1) {
				if !labels[used[1]] {
					t.Errorf("%s tells the label %s, which its series don't have", r.Alert, used[1])
				}
			}
		}
	}
}

type panel struct {
	ID          int    `json:"id"`
	Type        string `json:"type"`
	Title       string `json:"title"`
	Description string `json:"description"`
	GridPos     struct {
		X, Y, W, H int
	} `json:"gridPos"`
	FieldConfig struct {
		Defaults struct {
			Unit string `json:"unit"`
		} `json:"defaults"`
	} `json:"fieldConfig"`
	Datasource struct {
		UID string `json:"uid"`
	} `json:"datasource"`
	Targets []struct {
		RefID string `json:"refId"`
		Expr  string `json:"expr"`
	} `json:"targets"`
}

type dashboard struct {
	Templating struct {
		List []struct {
			Name  string `json:"name"`
			Type  string `json:"type"`
			Query any    `json:"query"`
		} `json:"list"`
	} `json:"templating"`
	Panels []panel `json:"panels"`
}

func readDashboard(t *testing.T) (d dashboard) {
	t.Helper()
	if err := json.Unmarshal([]byte(Dashboard), &d); err != nil {
		t.Fatal(err)
	}
	if len(d.Panels) == 0 {
		t.Fatal("no panels")
	}
	return d
}

func TestDashboardIsWellFormed(t *testing.T) {
	t.Parallel()
	const columns = 24
	taken := map[[2]int]string{}
	titles, ids := map[string]bool{}, map[int]bool{}
	row := ""
	for _, p := range readDashboard(t).Panels {
		if p.Title == "" || p.ID <= 0 || ids[p.ID] {
			t.Errorf("panel %d %q has no title, or an id that is not its own", p.ID, p.Title)
		}
		ids[p.ID] = true
		at := p.GridPos
		if at.X < 0 || at.Y < 0 || at.W < 1 || at.H < 1 || at.X+at.W > columns {
			t.Errorf("%s lies outside the grid: %+v", p.Title, at)
		}
		for x := at.X; x < at.X+at.W; x++ {
			for y := at.Y; y < at.Y+at.H; y++ {
				if other := taken[[2]int{x, y}]; other != "" {
					t.Fatalf("%s lies on %s", p.Title, other)
				}
				taken[[2]int{x, y}] = p.Title
			}
		}
		if p.Type == "row" {
			row = p.Title
			continue
		}
		if titles[row+p.Title] {
			t.Errorf("two panels of %s are %s", row, p.Title)
		}
		titles[row+p.Title] = true
		if p.Description == "" || p.FieldConfig.Defaults.Unit == "" || len(p.Targets) == 0 || p.Datasource.UID != "${datasource}" {
			t.Errorf("%s lacks a description, a unit, a query, or the chosen data source", p.Title)
		}
		refs := map[string]bool{}
		for _, target := range p.Targets {
			if target.RefID == "" || refs[target.RefID] {
				t.Errorf("two queries of %s are %q", p.Title, target.RefID)
			}
			refs[target.RefID] = true
		}
	}
}

// variable is how Grafana names one inside a query; its own begin with two underscores.
var variable = regexp.MustCompile(`\$(\w+)|\$\{(\w+)\}`)

func TestDashboardNamesWhatExists(t *testing.T) {
	t.Parallel()
	metrics := exposed(t)
	d := readDashboard(t)
	variables := map[string]bool{"__rate_interval": true}
	for _, v := range d.Templating.List {
		variables[v.Name] = true
	}
	for _, p := range d.Panels {
		for _, target := range p.Targets {
			for _, used := range variable.FindAllStringSubmatch(target.Expr, -1) {
				if !variables[used[1]+used[2]] {
					t.Errorf("%s: there is no variable %s", p.Title, used[0])
				}
			}
			metrics.check(t, p.Title, strings.ReplaceAll(target.Expr, "$__rate_interval", "5m"))
		}
	}
	values := regexp.MustCompile(`^label_values\((.+), (\w+)\)$`)
	for _, v := range d.Templating.List {
		if v.Type == "datasource" {
			continue
		}
		query, _ := v.Query.(map[string]any)
		text, _ := query["query"].(string)
		parts := values.FindStringSubmatch(text)
		if parts == nil {
			t.Errorf("variable %s: %q is not label_values", v.Name, text)
			continue
		}
		if labels := metrics.check(t, v.Name, parts[1]); !labels[parts[2]] {
			t.Errorf("variable %s: %s has no label %s", v.Name, parts[1], parts[2])
		}
	}
}

// onlyPrometheus takes a function that the parser knows, and that keeps labels too, for those that it does not.
var onlyPrometheus = strings.NewReplacer("histogram_count(", "abs(", "histogram_sum(", "abs(")

// series are the labels of each series that Prometheus knows by name. All have those that it adds itself.
type series map[string]map[string]bool

func labelSet(names ...string) map[string]bool {
	set := map[string]bool{"job": true, "instance": true}
	for _, name := range names {
		set[name] = true
	}
	return set
}

// check wants every series that the expression names to exist, with the labels that it is selected or grouped by, and
// returns the labels of the result.
//
// The expression is read by VictoriaMetrics' parser: that of Prometheus would add its two hundred modules to the graph of
// go.mod, and a newer Go to what the program needs. What Prometheus itself would refuse, promtool tells in .ci/run.
func (s series) check(t *testing.T, where, text string) map[string]bool {
	t.Helper()
	expr, err := metricsql.Parse(onlyPrometheus.Replace(text))
	if err != nil {
		t.Fatalf("%s: %v in %s", where, err, text)
	}
	labels, err := s.labels(expr)
	if err != nil {
		t.Errorf("%s: %v in %s", where, err, text)
	}
	return labels
}

func (s series) labels(expr metricsql.Expr) (map[string]bool, error) {
	switch e := expr.(type) {
	case *metricsql.MetricExpr:
		return s.selected(e)
	case *metricsql.RollupExpr:
		return s.labels(e.Expr)
	case *metricsql.FuncExpr:
		labels, err := s.union(e.Args...)
		if e.Name == "histogram_quantile" {
			delete(labels, "le")
		}
		if e.Name == "absent" {
			labels = nil // those of its equality matchers, of which there are none here
		}
		return labels, err
	case *metricsql.AggrFuncExpr:
		labels, err := s.union(e.Args...)
		if err != nil {
			return nil, err
		}
		kept := map[string]bool{}
		if e.Modifier.Op != "" {
			for _, name := range e.Modifier.Args {
				if kept[name] = true; !labels[name] {
					return nil, fmt.Errorf("%s by %s, which is no label of it", e.Name, name)
				}
			}
		}
		return kept, nil
	case *metricsql.BinaryOpExpr:
		left, err := s.labels(e.Left)
		if err != nil {
			return nil, err
		}
		right, err := s.labels(e.Right)
		if err != nil {
			return nil, err
		}
		if strings.EqualFold(e.GroupModifier.Op, "on") {
			for _, name := range e.GroupModifier.Args {
				if !left[name] || !right[name] {
					return nil, fmt.Errorf("%s on %s, which is no label of both", e.Op, name)
				}
			}
		}
		switch strings.ToLower(e.Op) {
		case "or":
			both := maps.Clone(left)
			maps.Copy(both, right)
			return both, nil
		case "and", "unless":
			return left, nil
		}
		if len(left) == 0 { // a number
			return right, nil
		}
		return left, nil
	default: // a number, a text
		return nil, nil
	}
}

func (s series) union(exprs ...metricsql.Expr) (map[string]bool, error) {
	all := map[string]bool{}
	for _, expr := range exprs {
		labels, err := s.labels(expr)
		if err != nil {
			return nil, err
		}
		maps.Copy(all, labels)
	}
	return all, nil
}

func (s series) selected(e *metricsql.MetricExpr) (map[string]bool, error) {
	if len(e.LabelFilterss) != 1 || e.LabelFilterss[0][0].Label != "__name__" || e.LabelFilterss[0][0].IsRegexp {
		return nil, fmt.Errorf("%s does not name one metric", e.AppendString(nil))
	}
	filters := e.LabelFilterss[0]
	labels, exists := s[filters[0].Value]
	if !exists {
		return nil, fmt.Errorf("there is no metric %s, only %s", filters[0].Value, slices.Sorted(maps.Keys(s)))
	}
	for _, filter := range filters[1:] {
		if !labels[filter.Label] {
			return nil, fmt.Errorf("%s has no label %s", filters[0].Value, filter.Label)
		}
	}
	return maps.Clone(labels), nil
}
