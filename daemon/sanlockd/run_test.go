package sanlockd

const daemonEnv = "TENURE_TEST_DAEMON"

func runDaemon() int { return 0 }
