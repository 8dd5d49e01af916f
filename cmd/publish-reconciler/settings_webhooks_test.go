package main

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
)

func TestWebhookSettings(t *testing.T) {
	t.Parallel()
	const long = "0123456789abcdef"
	for value, pair := range map[string]int{
		"hush-hush-hush-hush":                 1,
		"=" + long:                            1,
		"a.b=" + long:                         1,
		"a=hush":                              1,
		"a=":                                  1,
		"a=" + long + ",":                     1,
		"a=" + long + "," + long + "," + long: 1,
		"a=" + long + ";A=" + long:            2,
		"a=" + long + ";;hush":                3,
		"a=" + long + "%zz":                   1,
		"a=" + strings.Repeat("h", 200):       1,
	} {
		p := begin(t, "run", "--database-url="+aDatabase, "--webhook-secrets="+value)
		p.exits(exitUsage, soon)
		p.says(fmt.Sprintf("--webhook-secrets (WEBHOOK_SECRETS) is wrong at its pair %d: it must be platform=secret pairs separated by semicolons", pair))
		for _, secret := range []string{long, "hush", "hhhhhh", "zz"} {
			if strings.Contains(p.stderr.String(), secret) {
				t.Errorf("it tells: %s", p.stderr.String())
			}
		}
	}
	p := begin(t, "run", "--database-url="+aDatabase, "--webhook-verify-tokens=a=hush")
	p.exits(exitUsage, soon)
	p.says("--webhook-verify-tokens (WEBHOOK_VERIFY_TOKENS) is wrong at its pair 1")
}

// Whatever the value, a fault tells nothing of it, and what is taken is as it must be.
func FuzzWebhookKeys(f *testing.F) {
	var one faults
	one.keys("webhook-secrets", "WEBHOOK_SECRETS", "x", minSecret)
	pair := regexp.MustCompile(`pair \d+`)
	want := pair.ReplaceAllString(one.err().Error(), "")
	f.Add("instagram=0123456789abcdef,fedcba9876543210; tiktok=0123456789%3Babcdef;")
	f.Add("a=%zz;=;a=b,c,d")
	f.Fuzz(func(t *testing.T, value string) {
		var told faults
		keys := told.keys("webhook-secrets", "WEBHOOK_SECRETS", value, minSecret)
		if err := told.err(); err != nil {
			if got := pair.ReplaceAllString(err.Error(), ""); keys != nil || got != want {
				t.Errorf("%d keys with %v", len(keys), err)
			}
			return
		}
		for platform, some := range keys {
			if len(some) < 1 || len(some) > 2 || platform != strings.ToLower(platform) {
				t.Errorf("%q has %d", platform, len(some))
			}
			for _, key := range some {
				if len(key) < minSecret || len(key) > maxSecret {
					t.Errorf("one of %q has %d bytes", platform, len(key))
				}
			}
		}
	})
}
