/**
 * A thread beside the stage that ends the worker when its supervisor is gone. It has its own event loop, so it works
 * while the main thread sits in a native call. An orphan shows by its parent: the system gives it another one.
 */
import { Worker } from "node:worker_threads"

/** The thread's whole program; it is handed over as text (no loader, no types), so it may use nothing but globals. */
function watch(supervisor: number): void {
  const gone = () => {
    if (process.ppid !== supervisor) return true
    try {
      process.kill(supervisor, 0)
      return false
    } catch (cause) {
      return !(cause instanceof Error && "code" in cause && cause.code === "EPERM")
    }
  }
  setInterval(() => {
    if (gone()) process.kill(process.pid, "SIGKILL")
  }, 500)
}

/** Ends this process within a second of the death of its parent `supervisor`. */
export const guard = (supervisor: number): void => {
  new Worker(`(${watch.toString()})(${supervisor})`, { eval: true, stdout: false, stderr: false }).unref()
}
