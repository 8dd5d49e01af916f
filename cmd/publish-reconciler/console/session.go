package console

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"net/http"
	"net/url"
	"strings"
	"time"
)

const (
	sessionCookie = "publish_session"
	// sessionTime is how long a login lasts: a day's work.
	sessionTime = 12 * time.Hour
	// A session is when it ends (8 bytes), what makes it one of its own (16), and the signature of both (32).
	sessionSigned = 8 + 16
)

// newSession is the cookie's value. It holds nothing of the token, and is valid on every replica that has the same one.
func (c *Console) newSession(now time.Time) string {
	session := binary.BigEndian.AppendUint64(nil, uint64(now.Add(sessionTime).Unix()))
	session = append(session, make([]byte, sessionSigned-len(session))...)
	_, _ = rand.Read(session[8:]) // it never fails
	return base64.RawURLEncoding.EncodeToString(append(session, c.sign(session)...))
}

func (c *Console) sign(session []byte) []byte {
	mac := hmac.New(sha256.New, c.key)
	mac.Write(session)
	return mac.Sum(nil)
}

// isSession tells whether a cookie's value is one that this token made, and has not ended.
func (c *Console) isSession(value string, now time.Time) bool {
	session, err := base64.RawURLEncoding.DecodeString(value)
	if err != nil || len(session) != sessionSigned+sha256.Size {
		return false
	}
	if !hmac.Equal(session[sessionSigned:], c.sign(session[:sessionSigned])) {
		return false
	}
	left := int64(binary.BigEndian.Uint64(session)) - now.Unix()
	return left > 0 && left <= int64(sessionTime/time.Second)
}

// loggedIn lets nobody in without a session, where there is a token.
func (c *Console) loggedIn(next handler) handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		if c.hasSession(r) {
			return next(w, r)
		}
		switch {
		case r.Method == http.MethodPost || r.URL.Path == "/live":
			return problem(http.StatusUnauthorized, "You are not logged in, or not any more. Nothing was done.")
		case r.Header.Get("Sec-Fetch-Site") == "cross-site":
			// A link on another site brings no SameSite=Strict cookie along; one on this page does.
			return c.render(w, r, http.StatusOK, "bounce.html", view{Title: "One moment"}, r.URL.RequestURI())
		}
		to := "/login"
		if at := r.URL.RequestURI(); at != "/" {
			to += "?" + url.Values{"next": {at}}.Encode()
		}
		http.Redirect(w, r, to, http.StatusSeeOther)
		return nil
	}
}

func (c *Console) hasSession(r *http.Request) bool {
	if c.cfg.Token == "" {
		return true
	}
	cookie, err := r.Cookie(sessionCookie)
	return err == nil && c.isSession(cookie.Value, time.Now())
}

type loginForm struct{ Next, Wrong string }

func (c *Console) askLogin(w http.ResponseWriter, r *http.Request) error {
	next := ownAddress(r.URL.Query().Get("next"))
	if c.hasSession(r) {
		http.Redirect(w, r, next, http.StatusSeeOther)
		return nil
	}
	return c.render(w, r, http.StatusOK, "login.html", view{Title: "Log in"}, loginForm{Next: next})
}

func (c *Console) login(w http.ResponseWriter, r *http.Request) error {
	if err := parseForm(r); err != nil {
		return err
	}
	next := ownAddress(r.PostForm.Get("next"))
	// Equal lengths, so that time tells nothing.
	got, want := sha256.Sum256([]byte(strings.TrimSpace(r.PostForm.Get("token")))), sha256.Sum256([]byte(c.cfg.Token))
	if c.cfg.Token != "" {
		if subtle.ConstantTimeCompare(got[:], want[:]) == 0 {
			return c.render(w, r, http.StatusUnauthorized, "login.html", view{Title: "Log in"}, loginForm{next, "That is not the API token."})
		}
		c.setSession(w, r, c.newSession(time.Now()), int(sessionTime/time.Second))
	}
	http.Redirect(w, r, next, http.StatusSeeOther)
	return nil
}

func (c *Console) logout(w http.ResponseWriter, r *http.Request) error {
	c.setSession(w, r, "", -1)
	http.Redirect(w, r, "/login", http.StatusSeeOther)
	return nil
}

func (*Console) setSession(w http.ResponseWriter, r *http.Request, value string, seconds int) {
	http.SetCookie(w, &http.Cookie{
		Name: sessionCookie, Value: value, Path: "/", MaxAge: seconds,
		HttpOnly: true, SameSite: http.SameSiteStrictMode,
		Secure: r.TLS != nil || strings.EqualFold(r.Header.Get("X-Forwarded-Proto"), "https"),
	})
}

// ownAddress is where a login leads: never to another site.
func ownAddress(next string) string {
	u, err := url.Parse(next)
	if err != nil || u.IsAbs() || u.Host != "" || !strings.HasPrefix(next, "/") || strings.HasPrefix(next, "//") || strings.ContainsAny(next, "\\\r\n\t") {
		return "/"
	}
	return next
}
