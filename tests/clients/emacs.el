;; Emacs completes at point through eglot and our language server, and saves: emacs --batch -l emacs.el
;; The environment tells the rest: CODEGEMMA_SERVER (a command of words), CODEGEMMA_FILE, CODEGEMMA_LINE, CODEGEMMA_TYPED.

(require 'eglot)

(setq eglot-sync-connect 120 eglot-connect-timeout 120 make-backup-files nil)
(add-to-list 'eglot-server-programs (cons 'python-mode (split-string (getenv "CODEGEMMA_SERVER"))))
(find-file (getenv "CODEGEMMA_FILE"))
(python-mode)
(call-interactively #'eglot)
(defun ready-p ()
  (let ((server (eglot-current-server)))
    (and server
         (eq t (plist-get (jsonrpc-request server :workspace/executeCommand
                                           '(:command "codegemma.status" :arguments []) :timeout 120)
                          :ready)))))
(let ((tries 0))
  (while (and (< tries 1500) (not (ready-p)))
    (setq tries (1+ tries))
    (accept-process-output nil 0.2))
  (goto-char (point-min))
  (forward-line (1- (string-to-number (getenv "CODEGEMMA_LINE"))))
  (end-of-line)
  (insert (getenv "CODEGEMMA_TYPED"))
  (completion-at-point)
  (save-buffer)
  (eglot-shutdown (eglot-current-server)))
