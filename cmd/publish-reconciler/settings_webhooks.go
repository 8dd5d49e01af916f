package main

import (
	"fmt"
	"net/url"
	"strings"

	"publish-reconciler/streams"
)

type webhookSettings struct {
	WebhookSecrets      string `name:"webhook-secrets" env:"WEBHOOK_SECRETS" help:"What platforms sign their webhooks with, such as instagram=NEW,OLD;tiktok=SECRET."`
	WebhookVerifyTokens string `name:"webhook-verify-tokens" env:"WEBHOOK_VERIFY_TOKENS" help:"What platforms bring when they verify the address of webhooks, such as instagram=TOKEN;youtube=TOKEN."`
}

// platformKeys are each platform's secrets, one or two: while one takes the other's place both count.
type platformKeys map[string][][]byte

// Limits of secrets. Meta's and TikTok's have 32 bytes and more; WebSub's must be less than 200, 5.1.1. A verify token is
// tried over HTTP alone, and Meta's own example has 12 bytes.
const (
	minSecret      = 16
	minVerifyToken = 8
	maxSecret      = 199
)

// read tells of no value: any part of one may be secret.
func (s webhookSettings) read(f *faults) (secrets, tokens platformKeys) {
	return f.keys("webhook-secrets", "WEBHOOK_SECRETS", s.WebhookSecrets, minSecret),
		f.keys("webhook-verify-tokens", "WEBHOOK_VERIFY_TOKENS", s.WebhookVerifyTokens, minVerifyToken)
}

// keys reads "platform=key,key" pairs, separated by semicolons. White space around them is none of theirs.
func (f *faults) keys(flag, variable, value string, least int) platformKeys {
	all := make(platformKeys)
	for i, pair := range strings.Split(value, ";") {
		if pair = strings.TrimSpace(pair); pair == "" {
			continue
		}
		platform, text, _ := strings.Cut(pair, "=")
		platform = strings.ToLower(strings.TrimSpace(platform))
		keys, ok := parseKeys(text, least)
		_, twice := all[platform]
		if !ok || twice || !streams.IsPlatform(platform) {
			f.all = append(f.all, fmt.Errorf("--%s (%s) is wrong at its pair %d: it must be platform=secret pairs separated by semicolons, each platform once, with one secret or two separated by a comma, each of %d to %d bytes, in which %%, semicolons, commas and spaces are percent-encoded (%%25, %%3B, %%2C, %%20)",
				flag, variable, i+1, least, maxSecret))
			return nil
		}
		all[platform] = keys
	}
	return all
}

func parseKeys(text string, least int) ([][]byte, bool) {
	var keys [][]byte
	for key := range strings.SplitSeq(text, ",") {
		key, err := url.PathUnescape(strings.TrimSpace(key))
		if err != nil || len(key) < least || len(key) > maxSecret {
			return nil, false
		}
		keys = append(keys, []byte(key))
	}
	return keys, len(keys) <= 2
}
