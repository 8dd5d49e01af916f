package main

import (
	"cmp"
	"fmt"
	"runtime/debug"
	"strings"
)

// What a build that is no checkout, such as the container's, is stamped with: -ldflags "-X main.buildVersion=v1.2.3 …".
// Empty ones are what the Go command knows of the build.
var (
	buildVersion string // a semantic version with its v
	buildCommit  string // the whole hash
	buildDate    string // the commit's, RFC 3339 in UTC
)

// version is the program's semantic version; "(devel)" where neither a stamp nor the Go command knows one.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return cmp.Or(buildVersion, "unknown")
	}
	return cmp.Or(buildVersion, info.Main.Version)
}

// longVersion is what --version prints: the version, the commit, its date, and the toolchain. What is not known is left
// out.
func longVersion() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		info = &debug.BuildInfo{}
	}
	settings := make(map[string]string, len(info.Settings))
	for _, s := range info.Settings {
		settings[s.Key] = s.Value
	}
	var details []string
	if commit := cmp.Or(buildCommit, settings["vcs.revision"]); commit != "" {
		if buildCommit == "" && settings["vcs.modified"] == "true" {
			commit += " and changes"
		}
		details = append(details, "commit "+commit)
	}
	if date := cmp.Or(buildDate, settings["vcs.time"]); date != "" {
		details = append(details, date)
	}
	if info.GoVersion != "" {
		details = append(details, info.GoVersion)
	}
	return fmt.Sprintf("publish-reconciler %s (%s)", version(), strings.Join(details, ", "))
}
