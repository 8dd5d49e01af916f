package main

import (
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"
	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats-server/v2/server"
	"go.yaml.in/yaml/v3"
)

const (
	repository = "../.."
	ourImage   = "publish-reconciler:local"
	clusterEnv = "cmd/publish-reconciler/deploy/cluster.env"
)

// compose reads docker-compose.yml as `docker compose` does, with these profiles and variables and no others.
func compose(t *testing.T, profiles, env []string) *types.Project {
	t.Helper()
	options, err := cli.NewProjectOptions([]string{filepath.Join(repository, "docker-compose.yml")},
		cli.WithName("test"), cli.WithProfiles(profiles), cli.WithEnv(env), cli.WithResolvedPaths(true))
	if err != nil {
		t.Fatal(err)
	}
	project, err := options.LoadProject(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return project
}

// ofCluster are the variables of the cluster's env file.
func ofCluster(t *testing.T) (env []string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(repository, clusterEnv))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			env = append(env, line)
		}
	}
	return env
}

// everything is the file with all its profiles.
func everything(t *testing.T) *types.Project {
	t.Helper()
	return compose(t, []string{"cluster", "monitoring"}, ofCluster(t))
}

func TestComposeProfiles(t *testing.T) {
	t.Parallel()
	one := []string{"migrate", "nats", "postgres", "publish-reconciler"}
	for name, tt := range map[string]struct {
		profiles, env, want []string
	}{
		"none":       {nil, nil, one},
		"monitoring": {[]string{"monitoring"}, nil, slices.Concat(one, []string{"grafana", "prometheus"})},
		"cluster":    {[]string{"cluster"}, ofCluster(t), slices.Concat(one, []string{"nats-2", "nats-3", "publish-reconciler-2"})},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			project := compose(t, tt.profiles, tt.env)
			slices.Sort(tt.want)
			if diff := cmp.Diff(tt.want, slices.Sorted(maps.Keys(project.Services))); diff != "" {
				t.Errorf("services (-want +got):\n%s", diff)
			}
			for _, s := range project.Services {
				for dependency := range s.DependsOn {
					if _, ok := project.Services[dependency]; !ok {
						t.Errorf("%s waits for %s, which is not started", s.Name, dependency)
					}
				}
			}
		})
	}
}

// Each setting of the service is passed on; those that name other containers or the port are the file's own.
func TestComposePassesSettingsOn(t *testing.T) {
	t.Parallel()
	own := map[string]string{
		"NATS_URL":     "nats://nats:4222",
		"DATABASE_URL": "postgres://publish@postgres:5432/publish?sslmode=disable",
		"HTTP_ADDR":    "0.0.0.0:8080",
	}
	all := variables(reflect.TypeFor[settings]())
	var env []string
	for _, variable := range all {
		env = append(env, variable+"=given")
	}
	project := compose(t, []string{"cluster"}, env)
	for _, name := range []string{"migrate", "publish-reconciler", "publish-reconciler-2"} {
		for _, variable := range all {
			want := "given"
			if value, ok := own[variable]; ok {
				want = value
			}
			if got := project.Services[name].Environment[variable]; got == nil || *got != want {
				t.Errorf("%s has another %s than %q: pass it on in docker-compose.yml", name, variable, want)
			}
		}
	}
}

// What the file gives to a service when nothing is set makes settings that the program takes.
func TestComposeDefaultsAreAllowed(t *testing.T) {
	t.Parallel()
	for mode, project := range map[string]*types.Project{"one": compose(t, nil, nil), "cluster": everything(t)} {
		var s settings
		environment := project.Services["publish-reconciler"].Environment
		set(reflect.ValueOf(&s).Elem(), environment)
		c, err := s.config()
		if err != nil {
			t.Errorf("%s: %v", mode, err)
		}
		if want := map[string]int{"one": 1, "cluster": 3}[mode]; c.streamReplicas != want || len(strings.Split(c.nats.NATSURL, ",")) != want {
			t.Errorf("%s: %d replicas of streams on %s", mode, c.streamReplicas, c.nats.NATSURL)
		}
	}
}

// set fills the fields with their variables, or their defaults where those are empty.
func set(v reflect.Value, environment types.MappingWithEquals) {
	for i := range v.NumField() {
		field := v.Type().Field(i)
		if field.Anonymous {
			set(v.Field(i), environment)
			continue
		}
		value := strings.NewReplacer("${nats_url}", natsURLDefault, "${http_addr}", httpAddrDefault).Replace(field.Tag.Get("default"))
		if given := environment[field.Tag.Get("env")]; given != nil && *given != "" {
			value = *given
		}
		v.Field(i).SetString(value)
	}
}

func TestComposeKeepsHouse(t *testing.T) {
	t.Parallel()
	project := everything(t)
	dockerfile, err := os.ReadFile("Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	ports := map[string]string{}
	for _, s := range project.Services {
		t.Run(s.Name, func(t *testing.T) {
			if !regexp.MustCompile(`:[a-z0-9][\w.-]+$`).MatchString(s.Image) || strings.HasSuffix(s.Image, ":latest") {
				t.Errorf("the image is %q: it must have a tag", s.Image)
			}
			if s.MemLimit <= 0 || s.CPUS <= 0 || s.PidsLimit <= 0 {
				t.Errorf("limits are %d bytes of memory, %v processors, %d processes: all must be there", s.MemLimit, s.CPUS, s.PidsLimit)
			}
			if s.CPUS > 1 {
				t.Errorf("%v processors: a machine with one would refuse them", s.CPUS)
			}
			if s.Logging == nil || s.Logging.Options["max-size"] == "" {
				t.Error("its log grows without a limit")
			}
			if !slices.Contains(s.SecurityOpt, "no-new-privileges:true") {
				t.Error("it may gain privileges")
			}
			if s.Image == ourImage && (!s.ReadOnly || !slices.Equal(s.CapDrop, []string{"ALL"}) || !strings.Contains(string(dockerfile), "\nUSER 65532:65532\n")) {
				t.Error("it may write its root file system, has capabilities or runs as root")
			}
			if s.Deploy != nil {
				t.Error("deploy: docker-compose 1.29 passes over it")
			}
			if s.Name == "migrate" {
				return // it ends
			}
			if s.Restart != "unless-stopped" {
				t.Errorf("restart is %q", s.Restart)
			}
			if !(s.HealthCheck != nil && len(s.HealthCheck.Test) > 1) && !(s.Image == ourImage && strings.Contains(string(dockerfile), "\nHEALTHCHECK ")) {
				t.Error("it has no health check, nor its Dockerfile")
			}
			for _, port := range s.Ports {
				if port.HostIP != "127.0.0.1" {
					t.Errorf("port %s is published on %q: it must be 127.0.0.1", port.Published, port.HostIP)
				}
				if other, taken := ports[port.Published]; taken {
					t.Errorf("port %s is published by %s, too", port.Published, other)
				}
				ports[port.Published] = s.Name
			}
			for _, volume := range s.Volumes {
				if volume.Type == types.VolumeTypeBind {
					if _, err := os.Stat(volume.Source); err != nil || !volume.ReadOnly {
						t.Errorf("%s is mounted (read-only: %v): %v", volume.Source, volume.ReadOnly, err)
					}
				}
			}
		})
	}
}

// One service builds the image, and only one: two builds of one name at a time get in each other's way.
func TestComposeBuildsOnce(t *testing.T) {
	t.Parallel()
	var builders []string
	for _, s := range everything(t).Services {
		if s.Build == nil {
			continue
		}
		builders = append(builders, s.Name)
		dockerfile, err := os.ReadFile(filepath.Join(s.Build.Context, s.Build.Dockerfile))
		if err != nil {
			t.Fatal(err)
		}
		for name := range s.Build.Args {
			if !strings.Contains(string(dockerfile), "\nARG "+name+"=") {
				t.Errorf("the Dockerfile has no argument %s", name)
			}
		}
	}
	if want := []string{"migrate"}; !slices.Equal(builders, want) {
		t.Errorf("%v build %s: it must be %v", builders, ourImage, want)
	}
}

// NATS itself reads what it is started with, and has a store that it does not share.
func TestComposeConfiguresNATS(t *testing.T) {
	t.Parallel()
	project := everything(t)
	for mode, p := range map[string]*types.Project{"one": compose(t, nil, nil), "cluster": project} {
		for name, s := range p.Services {
			if name != "nats" && !strings.HasPrefix(name, "nats-") {
				continue
			}
			options, err := server.ProcessConfigFile(filepath.Join("deploy/nats", filepath.Base(s.Command[1])))
			if err != nil {
				t.Fatalf("%s, %s: %v", mode, name, err)
			}
			if got := []string{s.Command[0], s.Command[2], s.Command[3]}; !slices.Equal(got, []string{"--config", "--name", name}) {
				t.Errorf("%s, %s: the command is %v", mode, name, s.Command)
			}
			if !options.JetStream || !strings.HasPrefix(options.StoreDir, "/data") || options.HTTPPort != 8222 {
				t.Errorf("%s, %s: JetStream %v in %s, monitoring on port %d", mode, name, options.JetStream, options.StoreDir, options.HTTPPort)
			}
			if s.Volumes[1].Target != "/data" || s.Volumes[1].Source != name {
				t.Errorf("%s, %s: its data is %v", mode, name, s.Volumes[1])
			}
			var routes []string
			for _, route := range options.Routes {
				routes = append(routes, route.Hostname())
			}
			want := map[string][]string{"one": nil, "cluster": {"nats", "nats-2", "nats-3"}}[mode]
			if diff := cmp.Diff(want, routes); diff != "" {
				t.Errorf("%s, %s: routes (-want +got):\n%s", mode, name, diff)
			}
		}
	}
	// Without its env file the cluster would be three servers that don't know of each other: better none.
	for _, name := range []string{"nats-2", "nats-3"} {
		if file := compose(t, []string{"cluster"}, nil).Services[name].Command[1]; !strings.Contains(file, "cluster.env is missing") {
			t.Errorf("%s starts with %s where cluster.env is not given", name, file)
		}
	}
}

// Prometheus and Grafana find each other, the service, the rules and the dashboard. No Grafana is at hand to read its
// files: they are held against the fields that its documentation of provisioning names.
func TestComposeWiresMonitoring(t *testing.T) {
	t.Parallel()
	project := everything(t)
	mounted := func(service, target string) string {
		for _, volume := range project.Services[service].Volumes {
			if volume.Target == target {
				return volume.Source
			}
		}
		t.Errorf("%s has nothing at %s", service, target)
		return ""
	}
	read := func(service, target string, into any) {
		file, err := os.Open(mounted(service, target))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = file.Close() }()
		decoder := yaml.NewDecoder(file)
		decoder.KnownFields(true)
		if err := decoder.Decode(into); err != nil {
			t.Errorf("%s of %s: %v", target, service, err)
		}
	}

	var prometheus struct {
		Global    map[string]string `yaml:"global"`
		RuleFiles []string          `yaml:"rule_files"`
		Scrape    []struct {
			Job string `yaml:"job_name"`
			DNS []struct {
				Names           []string
				Type            string
				Port            int
				RefreshInterval string `yaml:"refresh_interval"`
			} `yaml:"dns_sd_configs"`
		} `yaml:"scrape_configs"`
	}
	read("prometheus", "/etc/prometheus/prometheus.yml", &prometheus)
	for _, file := range prometheus.RuleFiles {
		if base := filepath.Base(mounted("prometheus", file)); base != "alerts.yaml" {
			t.Errorf("the rules are %s", base)
		}
	}
	for _, copied := range []string{"publish-reconciler", "publish-reconciler-2"} {
		if !slices.Contains(project.Services[copied].Networks["default"].Aliases, prometheus.Scrape[0].DNS[0].Names[0]) {
			t.Errorf("Prometheus does not find %s", copied)
		}
	}

	var sources struct {
		APIVersion int `yaml:"apiVersion"`
		Sources    []struct {
			Name, UID, Type, Access, URL string
			IsDefault                    bool              `yaml:"isDefault"`
			JSONData                     map[string]string `yaml:"jsonData"`
		} `yaml:"datasources"`
	}
	read("grafana", "/etc/grafana/provisioning/datasources/publish-reconciler.yaml", &sources)
	if s := sources.Sources[0]; sources.APIVersion != 1 || s.Type != "prometheus" || !s.IsDefault || s.URL != "http://prometheus:9090" ||
		s.JSONData["timeInterval"] != prometheus.Global["scrape_interval"] {
		t.Errorf("the data source is %+v", s)
	}
	var dashboards struct {
		APIVersion int `yaml:"apiVersion"`
		Providers  []struct {
			Name, Type string
			Options    struct{ Path string }
		}
	}
	read("grafana", "/etc/grafana/provisioning/dashboards/publish-reconciler.yaml", &dashboards)
	folder := dashboards.Providers[0].Options.Path
	if home := *project.Services["grafana"].Environment["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]; filepath.Dir(home) != folder ||
		filepath.Base(mounted("grafana", home)) != "dashboard.json" {
		t.Errorf("dashboards are in %s, the first is %s", folder, home)
	}
}
