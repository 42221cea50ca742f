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
  message: string
}
