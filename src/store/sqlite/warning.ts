/** What is wrong although all works. */
export interface Warning {
  code:
    | 'RESERVE_MISSING'
    | 'CHECKPOINTS_FAIL'
    | 'WAL_LARGE'
    | 'LOCKS_DROPPED'
    | 'CLOCK_SET_BACK'
    | 'UPKEEP_FAILS'
    | 'COUNTS_WRONG'
    | 'MOVED'
  message: string
}

export const countsWrong = (queues: string[]): Warning => ({
  code: 'COUNTS_WRONG',
  message: `Fewer jobs are counted in gq_queues than there are, in ${queues
    .slice(0, 3)
    .map((name) => `'${name}'`)
    .join(
      ', ',
    )}: somebody has changed the file by other means. Jobs run; what stats and limits say of these queues is wrong. 'gopherqueue doctor' says what the counts should be.`,
})
