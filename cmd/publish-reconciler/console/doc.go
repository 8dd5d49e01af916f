// Package console is the operator's page: HTML that is made on the server, with a little JavaScript for what moves. It
// works without that, too, and without a mouse.
//
// Nothing in it comes from elsewhere: styles, scripts and the chart library are embedded, and the Content-Security-Policy
// allows nothing else, nor anything inline. Whatever others wrote, such as payloads and the names of platforms, is shown
// as text.
package console

//go:generate ./vendor.sh
