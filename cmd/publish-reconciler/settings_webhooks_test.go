package main

import (
	"fmt"
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
