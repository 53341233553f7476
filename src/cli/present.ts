/** Help goes to stdout; what is wrong with a command line goes to stderr, with nothing on stdout. */
import { Console, Effect } from "effect"
import { CliOutput } from "effect/cli"

export const layer = CliOutput.layerPresenter({
  present: (event) => {
    if (event._tag !== "InvalidInvocation" || event.errors.length === 0)
      return CliOutput.defaultPresenter.present(event)
    const help = `${event.commandPath.join(" ")} --help`
    return Effect.forEach(event.errors, (error) => Console.error(`exp: ${error.message}`), { discard: true }).pipe(
      Effect.andThen(Console.error(`\`${help}\` says what there is.`))
    )
  }
})
