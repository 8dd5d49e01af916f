package streams

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// MinServerVersion is the oldest NATS server whose message schedules do what the checks need.
const MinServerVersion = "2.14"

// VersionError says that the connected server is too old, or that its version can't be told.
type VersionError struct {
	// Found is the version as the server gives it, such as "2.9.10".
	Found string
	// Need is the oldest version that will do: [MinServerVersion].
	Need string
}

func (e *VersionError) Error() string {
	if _, _, ok := parseVersion(e.Found); !ok {
		return fmt.Sprintf("NATS server has the version %s, which is not understood: publish-reconciler needs %s or later, for message schedules", quote(e.Found), e.Need)
	}
	return fmt.Sprintf("NATS server %s is too old: publish-reconciler needs %s or later, for message schedules", e.Found, e.Need)
}

// CheckServer returns nil when the server that js is connected to has what the streams need. An older
// one than [MinServerVersion] is a [*VersionError]; errors.Is tells jetstream.ErrJetStreamNotEnabled and
// jetstream.ErrJetStreamNotEnabledForAccount where JetStream is off, and nats.ErrDisconnected while there
// is no connection. [Ensure] and [Verify] begin with it.
func CheckServer(ctx context.Context, js jetstream.JetStream) error {
	version := js.Conn().ConnectedServerVersion()
	if version == "" {
		return fmt.Errorf("check NATS server: %w", nats.ErrDisconnected)
	}
	if err := checkVersion(version); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	// The account's own summary would tell too, but a user who may only do what the service needs must
	// not be asked for one more permission.
	_, err := js.Stream(ctx, StreamChecks)
	switch {
	case err == nil, errors.Is(err, jetstream.ErrStreamNotFound):
		return nil
	case errors.Is(err, jetstream.ErrJetStreamNotEnabled), errors.Is(err, nats.ErrNoResponders):
		return fmt.Errorf("JetStream is off on the NATS server %s, which must be started with it (nats-server -js): %w", js.Conn().ConnectedAddr(), jetstream.ErrJetStreamNotEnabled)
	case errors.Is(err, jetstream.ErrJetStreamNotEnabledForAccount):
		return fmt.Errorf("JetStream is not enabled for this account of the NATS server %s: %w", js.Conn().ConnectedAddr(), err)
	}
	return fmt.Errorf("check JetStream of the NATS server %s: %w", js.Conn().ConnectedAddr(), err)
}

// checkVersion compares major and minor alone: a release candidate has the schedules too.
func checkVersion(found string) error {
	major, minor, ok := parseVersion(found)
	needMajor, needMinor, _ := parseVersion(MinServerVersion)
	if !ok || major < needMajor || major == needMajor && minor < needMinor {
		return &VersionError{Found: found, Need: MinServerVersion}
	}
	return nil
}

func parseVersion(version string) (major, minor uint64, ok bool) {
	parts := strings.SplitN(strings.TrimPrefix(version, "v"), ".", 3)
	if len(parts) < 2 {
		return 0, 0, false
	}
	major, errMajor := strconv.ParseUint(parts[0], 10, 32)
	minor, errMinor := strconv.ParseUint(parts[1], 10, 32)
	return major, minor, errMajor == nil && errMinor == nil
}
