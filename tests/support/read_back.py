"""Files of programs read by HiGHS, which is then asked for their optimum."""

import highspy


def read_back(path):
    """Return the optimum that HiGHS finds in a file."""
    solver = highspy.Highs()
    solver.setOptionValue("output_flag", False)
    solver.setOptionValue("threads", 1)  # HiGHS keeps one scheduler a process: the adapter's needs one
    assert solver.readModel(str(path)) == highspy.HighsStatus.kOk
    solver.run()
    assert solver.getModelStatus() == highspy.HighsModelStatus.kOptimal
    return solver.getInfo().objective_function_value
