# Writes OUT with `git describe` of DIR, only when it changed.
execute_process(COMMAND git -C ${DIR} describe --always --dirty OUTPUT_VARIABLE described
  OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET RESULT_VARIABLE failed)
if(failed OR described STREQUAL "")
  set(described "no-git")
  if(EXISTS ${DIR}/VERSION)  # of a bundle
    file(STRINGS ${DIR}/VERSION described LIMIT_COUNT 1)
  endif()
endif()
set(line "#define VARION_GIT \"${described}\"\n")
if(EXISTS ${OUT})
  file(READ ${OUT} old)
endif()
if(NOT line STREQUAL "${old}")
  file(WRITE ${OUT} "${line}")
endif()
